#!/bin/sh
# The command line of the original script's e2e_test.sh (squad/flags.py says which script that is):
# e2e_test.sh CSV CASENUM|all host [ignored] [timeout in seconds]
exec npu-launch cases "$1" "$2" "${3:-host}" --timeout "${5:-1209600}"
