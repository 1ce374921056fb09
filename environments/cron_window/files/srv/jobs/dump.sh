#!/bin/sh
exec psql --quiet --file=/srv/sql/dump.sql shop
