CREATE ROLE sales_owner;
CREATE ROLE region_benelux;
CREATE ROLE region_iberia;
CREATE ROLE region_nordic;
CREATE ROLE nfarah LOGIN;
CREATE ROLE tbakker LOGIN;
CREATE ROLE sholm LOGIN;
CREATE ROLE kahn LOGIN;
GRANT region_benelux TO tbakker;
GRANT region_nordic TO sholm;
GRANT region_benelux, region_iberia, region_nordic TO kahn;

CREATE SCHEMA shop AUTHORIZATION sales_owner;
CREATE SCHEMA reports AUTHORIZATION sales_owner;
GRANT USAGE ON SCHEMA shop, reports TO PUBLIC;
CREATE TABLE shop.sales (
    id integer PRIMARY KEY, region text NOT NULL, customer text NOT NULL, product text NOT NULL,
    sold_on date NOT NULL, units integer NOT NULL, amount numeric(10, 2) NOT NULL
);
ALTER TABLE shop.sales OWNER TO sales_owner;
ALTER TABLE shop.sales ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON shop.sales TO region_benelux, region_iberia, region_nordic;
CREATE POLICY by_region ON shop.sales FOR SELECT USING (pg_has_role(current_user, 'region_' || region, 'member'));

INSERT INTO shop.sales VALUES
    (1, 'iberia', 'Jardines Lopez', 'bench', '2025-01-14', 40, 3600.00),
    (2, 'iberia', 'Casa Verde Porto', 'parasol', '2025-02-03', 25, 1475.00),
    (3, 'iberia', 'Jardines Lopez', 'parasol', '2025-02-20', 60, 3540.00),
    (4, 'iberia', 'Horta Nova', 'bench', '2025-03-11', 12, 1080.00),
    (5, 'benelux', 'Tuinhuis Gent', 'bench', '2025-01-22', 75, 6375.00),
    (6, 'benelux', 'De Groene Hof', 'lounger', '2025-02-17', 30, 5970.00),
    (7, 'benelux', 'Tuinhuis Gent', 'parasol', '2025-03-05', 90, 4950.00),
    (8, 'nordic', 'Fjordhage', 'lounger', '2025-01-30', 18, 3762.00),
    (9, 'nordic', 'Lindholm Have', 'bench', '2025-02-12', 55, 4895.00),
    (10, 'nordic', 'Fjordhage', 'bench', '2025-03-19', 33, 2937.00);
