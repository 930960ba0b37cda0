-- Schema 1: balances and holds, and the ledger.
-- Amounts are int64: nano-USD, or tokens or calls. Times are seconds since the epoch.

CREATE TABLE counters (             -- one limit in one window
    key TEXT PRIMARY KEY,
    settled INTEGER NOT NULL CHECK (typeof(settled) = 'integer'),
    held INTEGER NOT NULL CHECK (typeof(held) = 'integer' AND held >= 0)
) WITHOUT ROWID;

CREATE TABLE holds (                -- open ones, and ended ones for as long as a retry may come
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('open', 'settled', 'voided', 'expired')),
    placed TEXT NOT NULL,           -- JSON: amounts by counter, as first asked
    amounts TEXT NOT NULL,          -- JSON: held now; once ended, what was booked
    expiries TEXT NOT NULL,         -- JSON: what expiry books, where not the amount held
    step INTEGER NOT NULL,
    step_amounts TEXT NOT NULL,     -- JSON: the last accepted extension
    expires_at REAL NOT NULL,
    ended_at REAL,
    note TEXT NOT NULL,
    host TEXT NOT NULL,             -- who holds: machine and pid namespace, process, its start
    pid INTEGER NOT NULL,
    process_started INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX holds_open ON holds (expires_at) WHERE state = 'open';
CREATE INDEX holds_ended ON holds (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE adjustments (
    id TEXT PRIMARY KEY,
    amounts TEXT NOT NULL,          -- JSON: signed, by counter
    at REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE entries (              -- the ledger: appended, never changed
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    corrects TEXT,
    request_id TEXT,
    project TEXT,
    "group" TEXT,
    user_id TEXT,
    tier TEXT,
    session_id TEXT,
    run_id TEXT,
    prompt_version TEXT,
    tags TEXT NOT NULL,             -- JSON object
    budget TEXT,
    provider TEXT NOT NULL,
    wire TEXT NOT NULL,
    model TEXT NOT NULL,
    model_asked TEXT NOT NULL,
    streamed INTEGER NOT NULL,
    usage TEXT,                     -- JSON object of every count; NULL: nobody knows
    input_tokens INTEGER,           -- both once more as numbers, for sums
    output_tokens INTEGER,
    cost INTEGER CHECK (cost IS NULL OR typeof(cost) = 'integer'),   -- NULL: unpriced
    bound INTEGER,
    provider_cost TEXT,             -- exact decimal, USD
    price_snapshot TEXT,
    price_flags TEXT NOT NULL,      -- JSON array
    usage_source TEXT NOT NULL,
    settlement TEXT NOT NULL,
    finish TEXT,
    status INTEGER,
    error TEXT,
    clamped_to INTEGER,
    started_at REAL NOT NULL,
    first_token_at REAL,
    ended_at REAL,
    latency_ms REAL
);
CREATE INDEX entries_started ON entries (started_at);
