#!/bin/sh
# Lists players whose name nobody should see. Run by the team, from the game's folder.
mariadb "$@" taverne -e "SELECT id, name FROM players WHERE name REGEXP '^(admin|root|moderator)'"
