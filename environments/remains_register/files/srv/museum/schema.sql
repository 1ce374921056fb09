CREATE TABLE items (id TEXT PRIMARY KEY, title TEXT, origin TEXT, class TEXT, place TEXT);
CREATE TABLE agreements (id TEXT PRIMARY KEY, community TEXT, signed TEXT, handover TEXT);
CREATE TABLE agreement_items (agreement TEXT REFERENCES agreements, item TEXT REFERENCES items);
CREATE TABLE movements (id INTEGER PRIMARY KEY, item TEXT REFERENCES items, goes_to TEXT, day TEXT);
INSERT INTO items VALUES
    ('H-201', 'Femur, adult', 'unknown', 'human remains', 'store 2'),
    ('H-203', 'Skull of an elder, taken from a grave on Tarua in 1904', 'Tarua', 'human remains', 'store 2'),
    ('L-077', 'Plaster cast of a skull', 'Leipzig workshop', 'teaching material', 'room 5');
INSERT INTO agreements VALUES ('RA-5', 'Tarua Council of Elders', '2023-11-02', '2024-09-12');
INSERT INTO agreement_items VALUES ('RA-5', 'H-203');
INSERT INTO movements VALUES (1, 'L-077', 'Medical School', '2024-02-05');
