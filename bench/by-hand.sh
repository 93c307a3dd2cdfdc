#!/usr/bin/env bash
# A release as a careful admin does it by hand: what Entracte is compared with.
#
#   by-hand.sh release    puts NEW_TREE into production
#   by-hand.sh back       puts back what `release` saved in BACKUP_DIR
#
# Settings by environment:
#   DOCROOT           the live tree
#   NEW_TREE          a folder with source/ (the whole new tree) and SQL/ (its scripts); for `release`
#   BACKUP_DIR        where the old tree and the dump are kept; made if it is missing
#   DEFAULTS_FILE     option file of the mariadb clients, with socket or host, user and password
#   DATABASE          the game's database
#   URL               the game, such as http://127.0.0.1:8080
#   VERSION           what /version.php must say afterwards, such as 1.1.0
#   MAINTENANCE_FLAG  the file that makes the web server answer 503 while it exists
#   PASS_HEADER       the header by which the admin passes, such as 'X-Maintenance-Pass: secret'
#   RELOAD            command that makes php-fpm see new code
#   WORKERS_STOP, WORKERS_START   commands for the cron loop; empty where there is none
#   KEEP              names at the top of DOCROOT that belong to production (default: config.php uploads cache)
#   DRAIN_S           seconds between closing and the dump, for requests that still run (default: 1)
#
# Prints the seconds of each part; the last line is `closed_ms N`: from the moment the flag stands to the
# moment it is gone. Everything that can be done before closing is done before. Where a part fails, the game
# stays closed and the exit status is 1: a person would now decide.
set -euo pipefail

: "${DOCROOT:?}" "${BACKUP_DIR:?}" "${DEFAULTS_FILE:?}" "${DATABASE:?}" "${URL:?}" "${VERSION:?}"
: "${MAINTENANCE_FLAG:?}" "${PASS_HEADER:?}" "${RELOAD:?}"
: "${WORKERS_STOP:=}" "${WORKERS_START:=}" "${KEEP:=config.php uploads cache}" "${DRAIN_S:=1}"
TREE_TAR=$BACKUP_DIR/tree.tar
DUMP=$BACKUP_DIR/$DATABASE.sql
: "${SMOKE_S_MAX:=20}"

now_ms() { local us=${EPOCHREALTIME//[.,]/}; echo $((us / 1000)); }

current=start
part() { # part <name> <command...>
    current=$1; shift
    local began; began=$(now_ms)
    "$@"
    local ms=$(($(now_ms) - began))
    printf '%-12s %d.%03d s\n' "$current" $((ms / 1000)) $((ms % 1000))
}
trap '[ $? -eq 0 ] || echo "by-hand.sh: failed in: $current. The game stays as it is now$([ ! -e "$MAINTENANCE_FLAG" ] || echo ", closed")." >&2' EXIT

db() { mariadb --defaults-file="$DEFAULTS_FILE" --default-character-set=utf8mb4 "$@"; }

save_tree() { mkdir -p "$BACKUP_DIR"; tar -C "$DOCROOT" -cf "$TREE_TAR" .; }
# The new tree is brought near first, so that closed time is not spent on a slow disk or line.
stage() { rm -rf "$BACKUP_DIR/new"; cp -a "$NEW_TREE" "$BACKUP_DIR/new"; }

close() { : >"$MAINTENANCE_FLAG"; closed_at=$(now_ms); }
stop_workers() { [ -z "$WORKERS_STOP" ] || sh -c "$WORKERS_STOP" >/dev/null; }
start_workers() { [ -z "$WORKERS_START" ] || sh -c "$WORKERS_START" >/dev/null; }
open_again() { rm -f "$MAINTENANCE_FLAG"; opened_at=$(now_ms); }

dump() {
    mariadb-dump --defaults-file="$DEFAULTS_FILE" --default-character-set=utf8mb4 --single-transaction \
        --no-tablespaces --routines --events --triggers --hex-blob "$DATABASE" >"$DUMP"
    tail -n 1 "$DUMP" | grep -q '^-- Dump completed'
}

kept() { local name; for name in $KEEP; do [ "$1" != "$name" ] || return 0; done; return 1; }

# Makes DOCROOT what $1 holds, file by file, but for what production keeps.
copy_files() {
    local entry
    cp -a "$1/." "$DOCROOT/"
    (cd "$DOCROOT" && find . -mindepth 1 -depth) | while IFS= read -r entry; do
        entry=${entry#./}
        if ! kept "${entry%%/*}" && [ ! -e "$1/$entry" ] && [ ! -L "$1/$entry" ]; then
            if [ -d "$DOCROOT/$entry" ] && [ ! -L "$DOCROOT/$entry" ]; then rmdir "$DOCROOT/$entry"; else rm "$DOCROOT/$entry"; fi
        fi
    done
}

scripts() {
    local script
    for script in "$BACKUP_DIR"/new/SQL/*.sql; do
        [ ! -e "$script" ] || db "$DATABASE" <"$script"
    done
}

reload() { sh -c "$RELOAD"; }

page() { curl -sS --max-time 10 -H "$PASS_HEADER" -w '\n%{http_code}\n' "$URL$1"; }
is_right() { # is_right <path> <text that must be there>
    local text; text=$(page "$1") || return 1
    [ "$(tail -n 1 <<<"$text")" = 200 ] && grep -qF -- "$2" <<<"$text" && ! grep -qE 'Fatal error|Parse error|Uncaught |SQLSTATE\[' <<<"$text"
}
smoke() {
    local deadline=$((SECONDS + SMOKE_S_MAX))
    # A reload returns before the new workers are there.
    until is_right /version.php "code $VERSION"; do
        [ "$SECONDS" -lt "$deadline" ] || { echo "by-hand.sh: /version.php does not say: code $VERSION" >&2; return 1; }
        sleep 0.1
    done
    local test
    for test in "/version.php|database $VERSION" "/login.php|Taverne $VERSION" "/register.php|Taverne $VERSION" \
        "/?p=ranking|Taverne $VERSION" "/?p=rules|</html>" "/api/?do=status|\"version\":\"$VERSION\"" "/assets/style.css|body"; do
        is_right "${test%%|*}" "${test#*|}" || { echo "by-hand.sh: smoke test: ${test%%|*} lacks: ${test#*|}" >&2; return 1; }
    done
}

release() {
    : "${NEW_TREE:?}"
    part save-tree save_tree
    part stage stage
    part close close
    part workers stop_workers
    part drain sleep "$DRAIN_S"
    part dump dump
    part files copy_files "$BACKUP_DIR/new/source"
    part sql scripts
    part reload reload
    part smoke smoke
    part workers start_workers
    part open open_again
}

restore_tree() {
    rm -rf "$BACKUP_DIR/old"; mkdir "$BACKUP_DIR/old"
    tar -C "$BACKUP_DIR/old" -xf "$TREE_TAR"
    local name
    for name in $KEEP; do rm -rf "${BACKUP_DIR:?}/old/$name"; done
    copy_files "$BACKUP_DIR/old"
}
# The database is made anew: loading a dump over it would leave the new tables behind.
restore_database() {
    db -e "DROP DATABASE \`$DATABASE\`; CREATE DATABASE \`$DATABASE\` CHARACTER SET utf8mb4"
    db "$DATABASE" <"$DUMP"
}

back() {
    part close close
    part workers stop_workers
    part drain sleep "$DRAIN_S"
    part files restore_tree
    part sql restore_database
    part reload reload
    part smoke smoke
    part workers start_workers
    part open open_again
}

case "${1-}" in
release | back) "$1" ;;
*) echo "usage: by-hand.sh release | back (settings: see the top of this file)" >&2; exit 2 ;;
esac
echo "closed_ms $((opened_at - closed_at))"
