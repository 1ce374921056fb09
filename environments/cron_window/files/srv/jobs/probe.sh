#!/bin/sh
for page in / /search?q=lamp; do
    curl --silent --output /dev/null --max-time 20 --write-out "$page %{time_total}\n" "https://shop.example$page"
done >> /var/tmp/probe.txt
