"""The tables: a row a message until its id is forgotten, a row a unique key, a row a record, a row a member."""

from __future__ import annotations

__all__ = ["CREATE", "NOW"]

NOW = "extract(epoch from clock_timestamp())::float8"
"""The server's clock, which decides every lease, due time and expiry; UTC epoch seconds."""

CREATE = """
CREATE SEQUENCE IF NOT EXISTS place_in_line;

CREATE TABLE IF NOT EXISTS message (
    queue text NOT NULL,
    id text NOT NULL,
    place text NOT NULL,              -- waiting (ready or delayed, as due says), leased, dead, gone
    level smallint NOT NULL,          -- 0 to 9, for the order
    due float8 NOT NULL,
    line bigint NOT NULL,             -- breaks ties of due
    body bytea NOT NULL,
    fields jsonb NOT NULL,            -- the rest of the envelope
    step integer[] NOT NULL,          -- generation, attempt, hop: how far it has come
    sent_at float8 NOT NULL,
    number integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    token text NOT NULL DEFAULT '',
    claimed_at float8 NOT NULL DEFAULT 0,
    ends float8,                      -- of the lease, or of what is remembered of one that is gone
    reason text NOT NULL DEFAULT '',
    error text NOT NULL DEFAULT '',
    holder text NOT NULL DEFAULT '',
    died_at float8,
    PRIMARY KEY (queue, id)
);
CREATE INDEX IF NOT EXISTS message_waiting ON message (queue, level DESC, due, line) WHERE place = 'waiting';
CREATE INDEX IF NOT EXISTS message_due ON message (queue, due) WHERE place = 'waiting';
CREATE INDEX IF NOT EXISTS message_ends ON message (queue, place, ends) WHERE place IN ('leased', 'gone');
CREATE INDEX IF NOT EXISTS message_dead ON message (queue, (-died_at), (-line)) WHERE place = 'dead';

CREATE TABLE IF NOT EXISTS unique_key (
    key bytea PRIMARY KEY,
    queue text NOT NULL,
    id text NOT NULL,
    until text NOT NULL,
    ends float8 NOT NULL
);
CREATE INDEX IF NOT EXISTS unique_key_holder ON unique_key (queue, id);
CREATE INDEX IF NOT EXISTS unique_key_ends ON unique_key (ends);

CREATE SEQUENCE IF NOT EXISTS record_version;

CREATE TABLE IF NOT EXISTS record (
    key text COLLATE "C" PRIMARY KEY,
    body bytea NOT NULL,
    ends float8 NOT NULL,
    rank bigint NOT NULL,
    final boolean NOT NULL,
    version bigint NOT NULL,
    task text,
    state text,
    error text,
    at float8
);
CREATE INDEX IF NOT EXISTS record_ends ON record (ends);

CREATE TABLE IF NOT EXISTS gathering (name text PRIMARY KEY, ends float8 NOT NULL);
CREATE INDEX IF NOT EXISTS gathering_ends ON gathering (ends);
CREATE TABLE IF NOT EXISTS member (
    name text NOT NULL REFERENCES gathering ON DELETE CASCADE,
    number integer NOT NULL,
    PRIMARY KEY (name, number)
);
"""
