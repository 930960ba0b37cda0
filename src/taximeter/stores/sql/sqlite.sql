-- name: hold_find
SELECT placed, amounts, state, expiries, step, step_amounts, expires_at, note
  FROM holds WHERE id = ?;

-- name: hold_insert
INSERT INTO holds (placed, amounts, state, expiries, step, step_amounts, expires_at, note,
                   id, host, pid, process_started)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: hold_update
UPDATE holds
   SET placed = ?, amounts = ?, state = ?, expiries = ?, step = ?, step_amounts = ?,
       expires_at = ?, note = ?
 WHERE id = ?;

-- name: hold_end
-- Also the settle of an unknown hold: it is written as one that has ended.
INSERT INTO holds (id, state, placed, amounts, expiries, step, step_amounts, expires_at,
                   ended_at, note, host, pid, process_started)
VALUES (?, ?, '{}', ?, '{}', 0, '{}', 0, ?, '', '', 0, 0)
    ON CONFLICT (id) DO UPDATE
   SET state = excluded.state, placed = '{}', amounts = excluded.amounts, expiries = '{}',
       ended_at = excluded.ended_at, note = '';

-- name: hold_renew
UPDATE holds SET expires_at = ? WHERE id = ? AND state = 'open';

-- name: holds_lost
-- Expired at ?, and those of other processes of this host, which may be gone.
SELECT id, expires_at, pid, process_started FROM holds
 WHERE state = 'open' AND (expires_at <= ? OR (host = ? AND pid <> ?))
 ORDER BY id;

-- name: holds_forget
-- Ended so long ago that nobody asks again. Expired ones wait longer for the truth.
DELETE FROM holds WHERE ended_at < ? AND (state <> 'expired' OR ended_at < ?);

-- name: counter_put
INSERT INTO counters (key, settled, held) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET settled = excluded.settled, held = excluded.held;

-- name: adjustment_insert
INSERT INTO adjustments (id, amounts, at) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING;
