"""SQL for sqlite3: tables, indexes, joins, windows, text, deletes and a vacuum."""
from .draw import Draw

SETUP = """
PRAGMA journal_mode=MEMORY;
PRAGMA synchronous=OFF;
PRAGMA cache_size=-8000;
CREATE TABLE customer(id INTEGER PRIMARY KEY, name TEXT, city TEXT);
CREATE TABLE item(id INTEGER PRIMARY KEY, label TEXT, price INTEGER, data BLOB);
CREATE TABLE sale(id INTEGER PRIMARY KEY, customer INTEGER, item INTEGER, count INTEGER, note TEXT);
"""

WORK = """
CREATE INDEX sale_customer ON sale(customer);
CREATE INDEX sale_item ON sale(item, count);
CREATE INDEX sale_note ON sale(note);
SELECT count(*), sum(count), min(note), max(note) FROM sale;
SELECT c.city, count(*), sum(s.count * i.price) AS total FROM sale s JOIN customer c ON c.id = s.customer
  JOIN item i ON i.id = s.item GROUP BY c.city ORDER BY total DESC, c.city;
SELECT i.label, total, rank() OVER (ORDER BY total DESC) FROM (SELECT item, sum(count) AS total FROM sale
  GROUP BY item) t JOIN item i ON i.id = t.item ORDER BY total DESC, i.label LIMIT 40;
SELECT customer, group_concat(note, '+') FROM (SELECT customer, note FROM sale WHERE count > 90 ORDER BY id)
  GROUP BY customer ORDER BY customer LIMIT 200;
WITH RECURSIVE walk(n, text) AS (SELECT 1, 'a' UNION ALL
  SELECT n + 1, substr(text || n, -200) FROM walk WHERE n < 4000)
  SELECT max(n), length(group_concat(text)) FROM walk;
SELECT count(*) FROM sale a JOIN sale b ON a.note = b.note AND a.id < b.id;
SELECT json_group_array(json_object('label', label, 'price', price)) FROM
  (SELECT * FROM item ORDER BY id LIMIT 500);
UPDATE sale SET note = upper(note) || count WHERE item % 3 = 0;
DELETE FROM sale WHERE id % 5 = 2;
CREATE TABLE copy AS SELECT s.*, c.name FROM sale s JOIN customer c ON c.id = s.customer
  ORDER BY s.note, s.id;
SELECT count(*), sum(length(note)), sum(length(name)) FROM copy;
SELECT hex(data) FROM item WHERE id % 97 = 1 ORDER BY id;
PRAGMA integrity_check;
DROP TABLE copy;
VACUUM;
SELECT substr(name, 1, 1) AS first, count(DISTINCT city) FROM customer GROUP BY first ORDER BY first;
"""


def make(sales: int) -> bytes:
    """A script that inserts `sales` rows and works on them."""
    draw = Draw(7)
    lines = [SETUP, "BEGIN;"]
    customers, items = sales // 20 + 10, sales // 50 + 10
    cities = [draw.word(5, 12) for _ in range(30)]
    for key in range(customers):
        lines.append(
            f"INSERT INTO customer VALUES({key},'{draw.word()} {draw.word()}','{cities[draw(30)]}');"
        )
    for key in range(items):
        lines.append(
            f"INSERT INTO item VALUES({key},'{draw.word()}',{draw(5000)},x'{draw(1 << 62):016x}{draw(1 << 62):016x}');"
        )
    notes = [draw.word(4, 30) for _ in range(sales // 4 + 5)]
    for key in range(sales):
        lines.append(
            f"INSERT INTO sale VALUES({key},{draw(customers)},{draw(items)},{draw(100)},"
            f"'{notes[draw(len(notes))]}');"
        )
        if key % 2000 == 1999:
            lines.append("COMMIT; BEGIN;")
    lines.append("COMMIT;")
    lines.append(WORK)
    return "\n".join(lines).encode()
