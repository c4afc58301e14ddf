-- The tables of the apps in this folder; the apps connect as `app`. A superuser makes them: psql -d app -f notes.sql
DROP SCHEMA IF EXISTS acme, other CASCADE;
DROP TABLE IF EXISTS notes;

-- One table for all tenants, of which each sees its own rows.
CREATE TABLE notes (
    text text,
    tenant text DEFAULT nullif(current_setting('app.tenant', true), ''),
    PRIMARY KEY (tenant, text)
);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (tenant = current_setting('app.tenant', true));
GRANT SELECT, INSERT ON notes TO app;

-- A schema for each tenant, which flask_app.py uses.
CREATE SCHEMA acme CREATE TABLE notes (text text);
CREATE SCHEMA other CREATE TABLE notes (text text);
GRANT USAGE ON SCHEMA acme, other TO app;
GRANT SELECT, INSERT ON acme.notes, other.notes TO app;
