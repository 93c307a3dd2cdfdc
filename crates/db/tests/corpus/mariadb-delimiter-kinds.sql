CREATE TABLE t (id INT, s TEXT);
delimiter //
delimiter ;;
CREATE PROCEDURE a() BEGIN INSERT INTO t VALUES (1, 'a;'); END ;;
DeLiMiTeR $$
CREATE PROCEDURE b() BEGIN INSERT INTO t VALUES (2, 'b;'); END$$
CALL a()$$ CALL b()$$
DELIMITER #
INSERT INTO t VALUES (3, '#;')#
INSERT INTO t VALUES (4, 'x') # INSERT INTO t VALUES (5, 'y')#
DELIMITER //
INSERT INTO t VALUES (6, 10 / 2)//
INSERT INTO t VALUES (7, '//')//
DELIMITER end_of_it
INSERT INTO t VALUES (8, 'word') end_of_it
DELIMITER ;
INSERT INTO t VALUES (9, 'no delimiter behind me')
