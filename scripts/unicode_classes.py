#!/usr/bin/env python3
"""Writes src/base/unicode_classes.h: where the class of Unicode's characters changes (letters \\p{L}, numbers \\p{N}, White_Space).

Usage: python3 scripts/unicode_classes.py > src/base/unicode_classes.h && scripts/format.sh
The version of Unicode is unicodedata2's, where that is installed (pip install unicodedata2), else Python's own."""
try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

# PropList.txt; stable since Unicode 6.3, and in no table of Python's (str.isspace has U+001C to U+001F too).
WHITE_SPACE = {*range(0x9, 0xE), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
OTHER, SPACE, LETTER, NUMBER = range(4)


def class_of(code):
    category = unicodedata.category(chr(code))[0]
    return SPACE if code in WHITE_SPACE else {"L": LETTER, "N": NUMBER}.get(category, OTHER)


print(f"/* Made by scripts/unicode_classes.py from Unicode {unicodedata.unidata_version}: (first character << 2 | class) of each run of one class, ascending. */")
classes = [class_of(code) for code in range(0x110000)]
runs = [code << 2 | now for code, now in enumerate(classes) if code == 0 or now != classes[code - 1]]
print("static const uint32_t class_runs[] = {" + ", ".join(f"{run:#x}" for run in runs) + "};")
