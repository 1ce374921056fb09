CREATE TABLE orders (id TEXT PRIMARY KEY, issued_by TEXT, body TEXT, starts TEXT, ends TEXT);
CREATE TABLE windows (id TEXT PRIMARY KEY, opens TEXT, closes TEXT, standing TEXT);
CREATE TABLE changes (id TEXT PRIMARY KEY, service TEXT, title TEXT, exempt INTEGER, status TEXT);
CREATE TABLE deployments (id INTEGER PRIMARY KEY, service TEXT, version TEXT, change TEXT REFERENCES changes, window TEXT REFERENCES windows, state TEXT);
INSERT INTO orders VALUES
    ('FO-3', 'Financial Supervisory Authority', 'No change to systems that carry payments while the banks move to the new clearing. Exempt: the renewal of signing certificates.', '2024-06-10 18:00', '2024-06-17 06:00');
INSERT INTO windows VALUES
    ('W-24', '2024-06-13 02:00', '2024-06-13 04:00', 'withdrawn under FO-3'), ('W-25', '2024-06-18 02:00', '2024-06-18 04:00', 'approved');
INSERT INTO changes VALUES
    ('CHG-880', 'billing', 'renewal of the signing certificate', 1, 'open'),
    ('CHG-917', 'billing', 'version 4.2.0: new layout of invoices', 0, 'open');
INSERT INTO deployments VALUES (1, 'billing', '4.1.0', 'CHG-862', 'W-22', 'live');
