/*M!999999\- enable the sandbox mode */
-- a dump of MariaDB begins with the line above; other clients take it for a comment
CREATE TABLE t (begin INT, `end` INT, `case` INT, `loop` INT, label TEXT, delimiter TEXT);
INSERT INTO t (begin, `end`, label) VALUES (5--1, 5 - -1, 'a--b'), (5 -- one
+ 1, 7, 'c');
INSERT INTO t (label, delimiter)
VALUES ('d', 'e');
UPDATE t SET begin = begin + 1 WHERE begin > 5--1;
INSERT INTO t (begin, label) SELECT begin, IF(begin > 3, 'big;', 'small;') FROM t WHERE label IS NOT NULL;
/*!50001 INSERT INTO t (begin) VALUES (77) */;
/*!50001 INSERT INTO t (label) VALUES ('a;b') */;
INSERT INTO t (begin) VALUES (/*!50001 1 + */ 1);
BEGIN;
INSERT INTO t (begin) VALUES (100);
ROLLBACK;
BEGIN WORK;
INSERT INTO t (begin) VALUES (101);
COMMIT AND CHAIN; INSERT INTO t (begin) VALUES (102); COMMIT;
CREATE TABLE `a``;b` (`x'y` INT, `"z` INT); INSERT INTO `a``;b` VALUES (1, 2);
