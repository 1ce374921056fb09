#!/bin/sh
exec psql --quiet --file=/srv/sql/figures.sql shop
