-- Tokens of tenants and projects; NULL stands for all. Only the hash of a secret is kept.
CREATE TABLE api_tokens (
    token_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    tenant_id TEXT,
    project_id TEXT,
    role TEXT NOT NULL,
    secret_sha256 BLOB NOT NULL,
    created_by TEXT,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    revoked_at_ms INTEGER
);
CREATE INDEX api_tokens_by_tenant ON api_tokens (tenant_id, project_id);

-- Whose runner it is; NULL stands for all tenants.
ALTER TABLE runners ADD COLUMN tenant_id TEXT;
ALTER TABLE runners ADD COLUMN project_id TEXT;
