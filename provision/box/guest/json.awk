# Flattens one JSON document to lines "path<TAB>value", path elements joined by "/".
# Strings keep their escapes (\n stays two characters), so that a value never holds a tab or a line break.
function fail(what) {
    print "json: " what " at character " (total - length(text) + 1) >"/dev/stderr"
    failed = 1
    exit 1
}
function space() { sub(/^[ \t\r\n]+/, "", text) }
function string(    out) {
    if (!match(text, /^"([^"\\]|\\.)*"/)) fail("string expected")
    out = substr(text, 2, RLENGTH - 2)
    text = substr(text, RLENGTH + 1)
    return out
}
function value(path,    first, index_, key) {
    space()
    first = substr(text, 1, 1)
    if (first == "{" || first == "[") {
        text = substr(text, 2)
        space()
        index_ = 0
        if (text ~ /^[]}]/) { text = substr(text, 2); return }
        while (1) {
            space()
            key = index_++
            if (first == "{") {
                key = string()
                space()
                if (substr(text, 1, 1) != ":") fail("colon expected")
                text = substr(text, 2)
            }
            value(path == "" ? key : path "/" key)
            space()
            if (text ~ /^,/) { text = substr(text, 2); continue }
            if (substr(text, 1, 1) == (first == "{" ? "}" : "]")) { text = substr(text, 2); return }
            fail("comma or end expected")
        }
    } else if (first == "\"") {
        print path "\t" string()
    } else if (match(text, /^[-+.0-9A-Za-z]+/)) {
        print path "\t" substr(text, 1, RLENGTH)
        text = substr(text, RLENGTH + 1)
    } else fail("value expected")
}
{ text = text $0 "\n" }
END {
    if (failed) exit 1
    total = length(text)
    value("")
}
