CREATE TABLE limits (name TEXT PRIMARY KEY, amount REAL);
CREATE TABLE approvers (person TEXT PRIMARY KEY, name TEXT, back TEXT);
CREATE TABLE suppliers (id TEXT PRIMARY KEY, name TEXT, iban TEXT);
CREATE TABLE invoices (
    number TEXT PRIMARY KEY, supplier TEXT REFERENCES suppliers, amount REAL, due TEXT, subject TEXT, status TEXT
);
CREATE TABLE approvals (
    invoice TEXT REFERENCES invoices, person TEXT REFERENCES approvers, state TEXT CHECK (state IN ('given', 'asked'))
);
CREATE TABLE payments (
    id INTEGER PRIMARY KEY, invoice TEXT REFERENCES invoices, iban TEXT, amount REAL, text TEXT,
    status TEXT CHECK (status IN ('waiting', 'released', 'returned'))
);
CREATE TRIGGER release_entered BEFORE INSERT ON payments WHEN NEW.status = 'released'
    AND NEW.amount >= (SELECT amount FROM limits WHERE name = 'second approval from')
    AND (SELECT count(DISTINCT person) FROM approvals WHERE invoice = NEW.invoice AND state = 'given') < 2
    BEGIN SELECT RAISE(ABORT, 'a payment of this amount needs two approvals'); END;
CREATE TRIGGER release_waiting BEFORE UPDATE ON payments WHEN NEW.status = 'released'
    AND NEW.amount >= (SELECT amount FROM limits WHERE name = 'second approval from')
    AND (SELECT count(DISTINCT person) FROM approvals WHERE invoice = NEW.invoice AND state = 'given') < 2
    BEGIN SELECT RAISE(ABORT, 'a payment of this amount needs two approvals'); END;
INSERT INTO limits VALUES ('second approval from', 10000.00);
INSERT INTO approvers VALUES ('k.brandt', 'Kim Brandt', NULL), ('a.lindqvist', 'Anna Lindqvist', '2024-06-13');
INSERT INTO suppliers VALUES
    ('S-14', 'Papierhaus Vogel', 'DE02120300000000202051'), ('S-31', 'Norbyte AB', 'SE3550000000054910000003');
INSERT INTO invoices VALUES
    ('PV-880', 'S-14', 412.80, '2024-06-07', 'paper', 'paid'),
    ('NB-1987', 'S-31', 3900.00, '2024-05-30', 'support in May', 'paid'),
    ('NB-2041', 'S-31', 27600.00, '2024-06-28', 'servers, order 5512', 'open');
INSERT INTO approvals VALUES ('PV-880', 'k.brandt', 'given'), ('NB-1987', 'k.brandt', 'given'), ('NB-2041', 'k.brandt', 'given');
INSERT INTO payments VALUES
    (1, 'NB-1987', 'SE3550000000054910000003', 3900.00, 'NB-1987', 'released'),
    (2, 'PV-880', 'DE02120300000000202051', 412.80, 'PV-880', 'released');
