-- Each projection has a table of its own. An order is entered with its first item.
CREATE TABLE IF NOT EXISTS orders_by_hand (id text PRIMARY KEY, items int NOT NULL DEFAULT 0, total int NOT NULL DEFAULT 0, placed boolean NOT NULL DEFAULT false);
CREATE TABLE IF NOT EXISTS orders_gorm (id text PRIMARY KEY, items int NOT NULL DEFAULT 0, total int NOT NULL DEFAULT 0, placed boolean NOT NULL DEFAULT false);
CREATE TABLE IF NOT EXISTS orders_bun (id text PRIMARY KEY, items int NOT NULL DEFAULT 0, total int NOT NULL DEFAULT 0, placed boolean NOT NULL DEFAULT false);
CREATE TABLE IF NOT EXISTS orders_sqlc (id text PRIMARY KEY, items int NOT NULL DEFAULT 0, total int NOT NULL DEFAULT 0, placed boolean NOT NULL DEFAULT false);
CREATE TABLE IF NOT EXISTS orders_sqlc_pgx (id text PRIMARY KEY, items int NOT NULL DEFAULT 0, total int NOT NULL DEFAULT 0, placed boolean NOT NULL DEFAULT false);
