#!/bin/bash
# Runs once, when the database's volume is new. The role is no superuser: what works here works on managed PostgreSQL.
set -euo pipefail
psql --no-psqlrc --set ON_ERROR_STOP=1 --set password="$MILLWORK_PASSWORD" --username "$POSTGRES_USER" <<'SQL'
create role millwork login createdb createrole password :'password';
create database millwork owner millwork;
SQL
