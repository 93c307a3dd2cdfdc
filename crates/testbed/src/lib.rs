//! Real servers for tests and benchmarks: MariaDB, php-fpm, nginx, a whole game with players.

pub mod alone;
pub mod browser;
pub mod bulk;
pub mod cron;
pub mod fronts;
pub mod http;
pub mod link;
pub mod machine;
pub mod mariadb;
pub mod nginx;
pub mod php;
pub mod players;
pub mod postgres;
pub mod process;
pub mod relay;
pub mod sshd;
pub mod taverne;
