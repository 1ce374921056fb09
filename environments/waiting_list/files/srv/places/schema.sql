CREATE TABLE applications (id TEXT PRIMARY KEY, child TEXT, applied TEXT, note TEXT);
CREATE TABLE places (id TEXT PRIMARY KEY, house TEXT, starts TEXT, application TEXT REFERENCES applications);
INSERT INTO applications VALUES
    ('A-098', 'Mateo Ruiz', '2022-11-14', ''),
    ('A-101', 'Noor Haddad', '2023-01-09', 'mother begins training in August'),
    ('A-117', 'Emil Winter', '2023-03-20', ''),
    ('A-122', 'Lin Zhao', '2023-05-02', ''),
    ('A-140', 'Clara Brandis', '2024-02-26', 'niece of H. Brandis, donor of the garden house');
INSERT INTO places VALUES
    ('P-13', 'Mill Lane', '2024-08-01', 'A-098'),
    ('P-14', 'Mill Lane', '2024-08-01', NULL);
