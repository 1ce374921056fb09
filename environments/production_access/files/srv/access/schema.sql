CREATE TABLE people (account TEXT PRIMARY KEY, name TEXT, team TEXT);
CREATE TABLE tables (name TEXT PRIMARY KEY, holds TEXT);
CREATE TABLE grants (
    id INTEGER PRIMARY KEY, account TEXT REFERENCES people, scope TEXT, level TEXT, expires TEXT, ticket TEXT
);
CREATE TABLE tickets (id TEXT PRIMARY KEY, account TEXT, title TEXT, body TEXT);
INSERT INTO people VALUES
    ('m.okafor', 'Mina Okafor', 'payments'), ('j.silva', 'Joana Silva', 'payments'), ('t.lind', 'Tor Lind', 'platform');
INSERT INTO tables VALUES
    ('shop.orders', 'orders and their payment status'), ('shop.customers', 'names, addresses, dates of birth'),
    ('shop.cards', 'card tokens'), ('shop.payouts', 'bank details of sellers');
INSERT INTO grants (account, scope, level, expires, ticket) VALUES ('t.lind', 'shop.orders', 'read', '2024-03-01 17:00:00', 'ACC-398');
INSERT INTO tickets VALUES
    ('ACC-412', 'm.okafor', 'Access to look into failed payments',
     'Since this morning some orders stay in status "pending" after the card was charged. I need to look at shop.orders to find out which ones. Today is enough.');
