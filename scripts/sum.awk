# Sums the output of any number of cargo test runs. A test that printed "SKIPPED name: reason" is skipped, not passed.
# Set status to the exit status of the runs: a suite that died without a result counts as one failure.

function skip(line,    text, cut) {
    sub(/^.*SKIPPED +/, "", line)
    cut = index(line, ": ")
    text = cut ? substr(line, 1, cut - 1) : line
    if (text in seen) return
    seen[text] = 1
    skipped[++skips] = line
}

/^ *Running (unittests )?[^ ]+ / { suite = $0; sub(/^ *Running (unittests )?/, "", suite) }
/^---- .* stdout ----$/ { test = $2; counted = 0 }
/^(successes|failures):$/ || /^test result:/ { test = "" }
/SKIPPED [^ ]/ {
    # Inside a test's own output the test counts once, however many lines it printed.
    skip($0)
    if (test != "" && !counted) { counted = 1; from_tests++ }
    else if (test == "") outside++
}
/^test .* \.\.\. ignored/ {
    line = $0
    sub(/^test /, "", line)
    sub(/ \.\.\. ignored,? ?/, ": ", line)
    sub(/: $/, ": marked ignored without a reason", line)
    skipped[++skips] = line
    ignored++
}
/^test .* \.\.\. FAILED$/ { failures[++failed_names] = $2 " in " suite }
/^test result:/ {
    for (i = 1; i <= NF; i++) {
        if ($i ~ /^passed;/) passed += $(i - 1)
        if ($i ~ /^failed;/) failed += $(i - 1)
    }
}

END {
    if (status != 0 && failed == 0) {
        failed = 1
        failures[++failed_names] = "a build or a suite ended without a result: see the output above"
    }
    if (skips) print "\nskipped:"
    for (i = 1; i <= skips; i++) print "  " skipped[i]
    if (failed_names) print "\nfailed:"
    for (i = 1; i <= failed_names; i++) print "  " failures[i]
    printf "\n%d passed, %d failed, %d skipped\n", passed - from_tests - outside, failed, from_tests + outside + ignored
    exit failed != 0
}
