CREATE TABLE t (a INT);
COPY t (a) FROM stdin;
1
2
\.
