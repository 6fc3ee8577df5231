#!/bin/sh
# The seed's e2e_test.sh: CSV CASENUM|all host [ignored] [timeout in seconds]
exec npu-launch cases "$1" "$2" "${3:-host}" --timeout "${5:-1209600}"
