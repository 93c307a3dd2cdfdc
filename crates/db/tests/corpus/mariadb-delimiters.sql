-- Every form of DELIMITER that published scripts use.
CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a TEXT, `begin` INT, `end` INT);
CREATE TABLE audit (what TEXT);
DELIMITER //
CREATE TRIGGER t_insert AFTER INSERT ON t FOR EACH ROW
BEGIN
  -- a comment; with 'quotes
  INSERT INTO audit VALUES (CONCAT('new; ', NEW.a));
  IF NEW.begin > 1 THEN
    INSERT INTO audit VALUES ('big');
  END IF;
END//
delimiter $$
CREATE PROCEDURE fill(IN n INT)
BEGIN
  DECLARE i INT DEFAULT 0;
  WHILE i < n DO
    INSERT INTO t (a, begin) VALUES (CONCAT('row $ ', i), i);
    SET i = i + 1;
  END WHILE;
END$$
CALL fill(3)$$
Delimiter ;;
CREATE FUNCTION twice(x INT) RETURNS INT DETERMINISTIC BEGIN RETURN x * 2; END;;
DELIMITER ;;
INSERT INTO t (a) VALUES ('a;b');;
DELIMITER #
INSERT INTO t (a) VALUES ('hash')#
DELIMITER '|'
INSERT INTO t (a, begin) SELECT 'pipe', twice(21)|
    DELIMITER ;
# a comment of the other kind; here
INSERT INTO t (a) VALUES ('last')
