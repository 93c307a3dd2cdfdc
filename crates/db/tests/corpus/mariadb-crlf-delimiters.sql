CREATE TABLE t (a INT,
  b TEXT);
-- a comment

INSERT INTO t VALUES (1, "two
lines");
DELIMITER //
CREATE PROCEDURE p()
BEGIN
  INSERT INTO t VALUES (2, 'x;');
END//
DELIMITER ;
CALL p();
/* last; */
