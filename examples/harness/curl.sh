#!/bin/sh
# Start a broker, script it, hurt it and read its transcript, with nothing but curl.
# Usage: curl.sh CONTROL_URL
set -eu
control=$1

# A broker with one rule: `ping` is answered with "pong".
started=$(curl -sSf "$control/brokers" -d '{"rules": [{"event": "ping", "answer": ["pong"]}]}')
id=$(expr "$started" : '.*"id":"\([^"]*\)"')
url=$(expr "$started" : '.*"url":"\([^"]*\)"')
echo "broker $id at $url"

# A client on long-polling, by hand: open a session, join the namespace, send an event with ack id 1.
opened=$(curl -sSf "$url/socket.io/?EIO=4&transport=polling")
sid=$(expr "$opened" : '.*"sid":"\([^"]*\)"')
session="$url/socket.io/?EIO=4&transport=polling&sid=$sid"
curl -sSf "$session" -d '40'; echo
curl -sSf "$session" >/dev/null
curl -sSf "$session" -d '421["ping"]'; echo
curl -sSf "$session"; echo

# A fault: the server is gone for new connections. curl fails now.
curl -sSf "$control/brokers/$id/faults" -d '{"verb": "refuse"}' >/dev/null
if curl -s "$session" -d '3'; then echo 'still there?'; exit 1; fi
curl -sSf "$control/brokers/$id/faults" -d '{"verb": "heal"}' >/dev/null

# What went over the wire.
curl -sSf "$control/brokers/$id/transcript"; echo
curl -sSf -X DELETE "$control/brokers/$id"
