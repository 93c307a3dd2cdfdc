CREATE TABLE parent (id INT PRIMARY KEY) ENGINE=InnoDB;
CREATE TABLE child (id INT, parent INT, FOREIGN KEY (parent) REFERENCES parent (id)) ENGINE=InnoDB;
SET @sql = 'CREATE TABLE made (a INT, b TEXT)'; PREPARE make FROM @sql; EXECUTE make; DEALLOCATE PREPARE make;
PREPARE fill FROM 'INSERT INTO made VALUES (?, ''x;y'')'; SET @n = 3; EXECUTE fill USING @n; EXECUTE fill USING @n;
EXECUTE IMMEDIATE 'ALTER TABLE made ADD c INT DEFAULT 7';
SET foreign_key_checks = 0;
INSERT INTO child VALUES (1, 99);
SET SESSION sql_mode = CONCAT(@@sql_mode, ',NO_BACKSLASH_ESCAPES');
INSERT INTO made (b) VALUES ('back\'), (';slash\');
SET autocommit = 0;
INSERT INTO made (a) VALUES (5);
COMMIT;
SET autocommit = 1;
LOCK TABLES made WRITE; INSERT INTO made (a) VALUES (6); UNLOCK TABLES;
DO SLEEP(0); SELECT 1 INTO @x; SELECT 'shown;' \G
SELECT 'shown too' \g
INSERT INTO made (a) VALUES (@x)
