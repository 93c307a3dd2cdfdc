//! Dropping everything in a database, so that a dump finds it as a new one.

use super::connect::Server;
use super::sums::OURS;
use crate::error::DbError;

/// Held while a dump is loaded: a client that a crash left behind ends its transaction first.
const LOCK: u64 = 0x656e_7472_6163_7465;

/// What drops an object, in an order in which little is in the way. Members of extensions go with
/// their extension. Everything is dropped `IF EXISTS ... CASCADE`: the names were collected
/// before the first went.
fn drops() -> String {
    let own = |class: &str, alias: &str| {
        format!(
            "NOT EXISTS (SELECT 1 FROM pg_depend x WHERE x.classid = '{class}'::regclass
               AND x.objid = {alias}.oid AND x.deptype = 'e')"
        )
    };
    let parts = [
        "SELECT 1, format('DROP EVENT TRIGGER IF EXISTS %I CASCADE', evtname) FROM pg_event_trigger"
            .to_owned(),
        "SELECT 1, format('DROP PUBLICATION IF EXISTS %I CASCADE', pubname) FROM pg_publication"
            .to_owned(),
        "SELECT 2, format('DROP EXTENSION IF EXISTS %I CASCADE', e.extname) FROM pg_extension e
         WHERE e.oid >= 16384 AND pg_has_role(e.extowner, 'USAGE')"
            .to_owned(),
        format!(
            "SELECT 3, format('DROP SCHEMA IF EXISTS %I CASCADE', n.nspname) FROM pg_namespace n
             WHERE {OURS} AND n.nspname <> 'public' AND {}",
            own("pg_namespace", "n")
        ),
        format!(
            "SELECT 4, format('DROP %s IF EXISTS public.%I CASCADE', CASE c.relkind
               WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
               WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END, c.relname)
             FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
               AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
               AND NOT (c.relkind = 'S' AND EXISTS (SELECT 1 FROM pg_depend i WHERE i.classid = 'pg_class'::regclass
                 AND i.objid = c.oid AND i.deptype = 'i' AND i.refclassid = 'pg_class'::regclass))
               AND {}",
            own("pg_class", "c")
        ),
        format!(
            "SELECT 5, format('DROP %s IF EXISTS public.%I(%s) CASCADE', CASE p.prokind
               WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END, p.proname,
               CASE WHEN p.prokind = 'a' AND p.pronargs = 0 THEN '*'
                 ELSE pg_get_function_identity_arguments(p.oid) END)
             FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND {}",
            own("pg_proc", "p")
        ),
        format!(
            "SELECT 5, format('DROP OPERATOR IF EXISTS public.%s (%s, %s) CASCADE', o.oprname,
               CASE WHEN o.oprleft = 0 THEN 'NONE' ELSE o.oprleft::regtype::text END,
               CASE WHEN o.oprright = 0 THEN 'NONE' ELSE o.oprright::regtype::text END)
             FROM pg_operator o WHERE o.oprnamespace = 'public'::regnamespace AND {}",
            own("pg_operator", "o")
        ),
        format!(
            "SELECT 6, format('DROP %s IF EXISTS public.%I CASCADE',
               CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, t.typname)
             FROM pg_type t WHERE t.typnamespace = 'public'::regnamespace
               AND (t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'b' AND t.typelem = 0)) AND {}",
            own("pg_type", "t")
        ),
        named("COLLATION", "pg_collation", "collname", "collnamespace", &own),
        named("CONVERSION", "pg_conversion", "conname", "connamespace", &own),
        named("TEXT SEARCH CONFIGURATION", "pg_ts_config", "cfgname", "cfgnamespace", &own),
        named("TEXT SEARCH DICTIONARY", "pg_ts_dict", "dictname", "dictnamespace", &own),
        named("STATISTICS", "pg_statistic_ext", "stxname", "stxnamespace", &own),
        format!(
            "SELECT 8, format('DROP SERVER IF EXISTS %I CASCADE', s.srvname)
             FROM pg_foreign_server s WHERE {}",
            own("pg_foreign_server", "s")
        ),
        "SELECT 9, format('SELECT lo_unlink(%s)', l.oid) FROM pg_largeobject_metadata l".to_owned(),
    ];
    parts.join("\nUNION ALL\n")
}

fn named(
    words: &str,
    class: &str,
    name: &str,
    schema: &str,
    own: &dyn Fn(&str, &str) -> String,
) -> String {
    format!(
        "SELECT 7, format('DROP {words} IF EXISTS public.%I CASCADE', o.{name}) FROM {class} o
         WHERE o.{schema} = 'public'::regnamespace AND {}",
        own(class, "o")
    )
}

/// The SQL that empties the database, to be executed in the transaction that fills it again.
pub(super) fn script(server: &mut Server) -> Result<String, DbError> {
    const DOING: &str = "looking at the schema public";
    let mut sql = format!(
        "SET search_path = pg_catalog; SET client_min_messages = warning;
         SELECT pg_advisory_xact_lock({LOCK});
         DO $entracte$ DECLARE every text[]; this text; BEGIN
         SELECT array_agg(sql ORDER BY place, sql) INTO every FROM ({}) AS all_of(place, sql);
         FOREACH this IN ARRAY coalesce(every, '{{}}') LOOP EXECUTE this; END LOOP; END $entracte$;\n",
        drops()
    );
    // What a dump says of the schema `public` is how it differs from a new database's.
    let there = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = 'public')";
    if server.text_for(there, DOING)? != "t" {
        sql += "CREATE SCHEMA public AUTHORIZATION pg_database_owner;\n";
    }
    let modern = server.text_for("SHOW server_version_num", DOING)?.parse().unwrap_or(0) >= 150_000;
    let usual = if modern { "USAGE" } else { "ALL" };
    let changed = "SELECT coalesce(nspacl::text, '') FROM pg_namespace WHERE nspname = 'public'";
    let grants = server.text_for(changed, DOING)?;
    let default = if modern {
        "{pg_database_owner=UC/pg_database_owner,=U/pg_database_owner}"
    } else {
        "{postgres=UC/postgres,=UC/postgres}"
    };
    if grants != default {
        let grantees = "SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC'
             ELSE quote_ident(pg_get_userbyid(a.grantee)) END
             FROM pg_namespace n, aclexplode(n.nspacl) a
             WHERE n.nspname = 'public' AND a.grantee <> n.nspowner";
        for grantee in server.list_for(grantees, DOING)? {
            sql += &format!("REVOKE ALL ON SCHEMA public FROM {grantee} CASCADE;\n");
        }
        sql += &format!("GRANT {usual} ON SCHEMA public TO PUBLIC;\n");
    }
    let comment = "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace
         WHERE nspname = 'public'";
    if server.text_for(comment, DOING)? != "standard public schema" {
        sql += "COMMENT ON SCHEMA public IS 'standard public schema';\n";
    }
    sql += "RESET search_path;\n";
    Ok(sql)
}
