CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, email TEXT, born TEXT, hidden INTEGER DEFAULT 0);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, address TEXT, total REAL);
CREATE TABLE support (id INTEGER PRIMARY KEY, customer INTEGER, message TEXT);
CREATE TABLE requests (id TEXT PRIMARY KEY, email TEXT, kind TEXT, body TEXT, status TEXT);
INSERT INTO customers (id, name, email, born) VALUES
    (1, 'Lea Brandt', 'lea.brandt@post.example', '1988-02-11'), (2, 'Omar Nasser', 'omar.n@post.example', '1979-09-30'),
    (3, 'Ines Costa', 'ines.costa@post.example', '1993-12-05');
INSERT INTO orders VALUES (100, 1, 'Gartenweg 4', 49.9), (101, 2, 'Rua Nova 17', 120.0), (102, 1, 'Gartenweg 4', 18.5);
INSERT INTO support VALUES (1, 1, 'The parcel went to my old address.'), (2, 3, 'Where is my invoice?');
INSERT INTO requests VALUES
    ('ER-77', 'lea.brandt@post.example', 'erasure', 'Please erase everything you hold about me and confirm.', 'open');
