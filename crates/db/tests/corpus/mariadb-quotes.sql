/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;
/*M!100100 SET @x = 'a;b' */;
CREATE TABLE `a;b` (id INT AUTO_INCREMENT PRIMARY KEY, `c``;d` TEXT /* not; here */) -- nor; here
;
INSERT INTO `a;b` VALUES (0, 'it''s; \'quoted\' \\'), (5, "she said ""no;"" \"yes;\""), (6, '--'), (7, @x);
INSERT INTO `a;b` VALUES (8, 5--1), (9, '/* no comment; */'), (10, '# nor; this'), (11, \N);
INSERT INTO `a;b` VALUES (12, 'two
lines; and a
-- third') /* a comment
over lines; */, (13, 'x');
/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;
INSERT INTO `a;b` (`c``;d`) VALUES ('é 🐉; ü');
SET sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES';
INSERT INTO "a;b" ("c`;d") VALUES ('back\'), ('and; forth\');
SET sql_mode = DEFAULT;
INSERT INTO `a;b` (`c``;d`) VALUES ('back\\;'), ("\";");
