CREATE TABLE contacts (id TEXT PRIMARY KEY, name TEXT, phone TEXT, email TEXT, terms TEXT);
CREATE TABLE questions (id TEXT PRIMARY KEY, came_from TEXT REFERENCES contacts, goes_to TEXT, body TEXT, status TEXT);
INSERT INTO contacts VALUES
    ('C-2', 'Press office, Harbour Works', '+49 40 555 0100', 'press@harbourworks.example', 'by name'),
    ('C-5', 'Paul Reimer', '+49 40 555 0118', 'p.reimer@port.example', 'by name'),
    ('C-7', 'Ilse Varga', '+49 40 555 0142', 'ivarga@post.example', 'in confidence: we gave our word that nobody outside this desk learns the name');
INSERT INTO questions VALUES
    ('Q-30', 'C-5', 'press@harbourworks.example', 'How many ships did the port turn away in May?', 'sent'),
    ('Q-31', 'C-7', 'press@harbourworks.example',
     'On 4 March the pressure tests of cranes 3 and 4 were signed off, although neither had been carried out. Who ordered that?', 'open');
