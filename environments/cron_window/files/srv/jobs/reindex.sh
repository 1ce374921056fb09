#!/bin/sh
exec psql --quiet --file=/srv/sql/reindex.sql shop
