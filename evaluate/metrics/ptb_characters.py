"""What the PTB tokeniser of coco-caption makes of each character beyond ASCII, as ranges of hexadecimal code points.

Measured, not taken from its source: the program was asked about every assigned character of Unicode's basic plane, by
itself, doubled, and between letters and digits (`tests/compare_ptb.py` does so again). Characters in none of the
ranges vanish and part words; so do all beyond the basic plane. CoreNLP 3.4.1 knows the Unicode of its time: of some
scripts, Khmer and Burmese among them, it takes the letters and parts words at their vowel signs.
"""

# Letters and digits: part of a word wherever they stand.
LETTERS = """
    00aa 00b5 00ba 00c0-00d6 00d8-00f6 00f8-02c1 02c6-02d1 02e0-02e4 02ec 02ee 0370-0374 0376-037d 0386 0388-03f5
    03f7-0481 048a-0527 0531-0559 0561-0587 05d0-05ea 05f0-05f2 0620-064a 0660-0669 066e-066f 0671-06d3 06d5
    06e5-06e6 06ee-06fc 06ff 0710 0712-072f 074d-07a5 07b1-07ea 07f4-07f5 07fa 0800-0815 081a 0824 0828 0840-0858
    08a0 08a2-08ac 0904-0939 093d 0950 0958-0961 0966-096f 0971-0977 0979-097f 0985-09b9 09bd 09ce 09dc-09e1
    09e6-09f1 0a05-0a39 0a59-0a6f 0a72-0a74 0a85-0ab9 0abd 0ad0-0ae1 0ae6-0aef 0b05-0b39 0b3d 0b5c-0b61 0b66-0b6f
    0b71 0b83-0bb9 0bd0 0be6-0bef 0c05-0c33 0c35-0c39 0c3d 0c58-0c59 0c60-0c61 0c66-0c6f 0c85-0cb9 0cbd 0cde-0ce1
    0ce6-0cf2 0d05-0d3a 0d3d 0d4e 0d60-0d61 0d66-0d6f 0d7a-0d7f 0d85-0dc6 0e01-0e30 0e32-0e33 0e40-0e46 0e50-0e59
    0e81-0e84 0e87-0e88 0e8a 0e8d 0e94-0e97 0e99-0e9f 0ea1-0ea7 0eaa-0eab 0ead-0eb0 0eb2-0eb3 0ebd-0ec6 0ed0-0f00
    0f20-0f29 0f40-0f6c 0f88-0f8c 1000-102a 103f-1049 1050-1055 105a-105d 1061 1065-1066 106e-1070 1075-1081 108e
    1090-1099 10a0-10fa 10fc-135a 1380-138f 13a0-13f4 1401-166c 166f-167f 1681-169a 16a0-16ea 1700-170c 170e-1711
    1720-1731 1740-1751 1760-1770 1780-17b3 17d7 17dc 17e0-17e9 1810-1877 1880-18a8 18aa-191c 1946-19ab 19c1-19c7
    19d0-19d9 1a00-1a16 1a20-1a54 1a80-1a99 1aa7 1b05-1b33 1b45-1b4b 1b50-1b59 1b83-1ba0 1bae-1be5 1c00-1c23
    1c40-1c7d 1ce9-1cec 1cee-1cf1 1cf5-1cf6 1d00-1dbf 1e00-1fbc 1fbe 1fc2-1fcc 1fd0-1fdb 1fe0-1fec 1ff2-1ffc 2071
    207f 2090-209c 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128 212a-212d 212f-2139 213c-213f 2145-2149 214e
    2183-2184 2c00-2c2e 2c30-2c5e 2c60-2ce4 2ceb-2cee 2cf2-2cf3 2d00-2d6f 2d80-2dde 2e2f 3005-3006 3031-3035
    303b-303c 3041-3096 309d-309f 30a1-30fa 30fc-312d 3131-318e 31a0-31ba 31f0-31ff 3400-4db5 4e00-9fcc a000-a48c
    a4d0-a4fd a500-a60c a610-a66e a67f-a697 a6a0-a6e5 a717-a71f a722-a788 a78b-a78e a790-a793 a7a0-a7aa a7f8-a801
    a803-a805 a807-a80a a80c-a822 a840-a873 a882-a8b3 a8d0-a8d9 a8f2-a8f7 a8fb a900-a925 a930-a946 a960-a97c
    a984-a9b2 a9cf-a9d9 aa00-aa28 aa40-aa42 aa44-aa4b aa50-aa59 aa60-aa76 aa7a aa80-aaaf aab1 aab5-aab6 aab9-aabd
    aac0 aac2-aadd aae0-aaea aaf2-aaf4 ab01-ab2e abc0-abe2 abf0-d7fb f900-fb1d fb1f-fb28 fb2a-fbb1 fbd3-fd3d
    fd50-fdc7 fdf0-fdfb fe70-fefc ff10-ff19 ff21-ff3a ff41-ff5a ff66-ffdc"""
# Marks and signs that are part of a word, but do not join it to a number that stands before them.
MARKS = """
    02c2-02c5 02d2-02df 02e5-02eb 02ed 02ef-036f 0375 0384-0385 03f6 0483-0487 055a-055f 0591-05bd 05bf 05c1-05c2
    05c4-05c5 05c7 0615-061a 064b-065e 0670 06d6-06e4 06e7-06ed 06fd-06fe 070f 0711 0730-074a 07a6-07b0 07eb-07f3
    0900-0903 093c 093e-094e 0951-0955 0962-0963 0981-0983 09bc 09be-09cd 09d7 09e2-09e3 0a01-0a03 0a3c-0a4d
    0a81-0a83 0abc 0abe-0acd 0b82 0bbe-0bcd 0c01-0c03 0c3e-0c56 0d3e-0d48 0e31 0e34-0e3a 0e47-0e4e 0eb1 0eb4-0ebc
    0ec8-0ecd"""
# Signs that are a token each, and signs of which a run is one token.
SIGNS = """
    00a1 00a5-00a9 00ac 00ae-00b1 00b4 00b6-00b8 00bf 00d7 00f7 037e 0387 0589 05be 05c0 05c3 05c6 05f3-0603
    0606-060c 0614 061b 061e-061f 066a 066d 06d4 0700-070d 07f6-07f8 0964-0965 0e3f 0e4f 1fbd 2016-2017 2020-2023
    2030-2038 203b 203e-2042 207a-207e 208a-208e 20a4 2100-2101 2103-2106 2108-2109 2114 2116-2118 211e-2123 2125
    2127 2129 212e 213a-213b 2140-2144 214a-214d 214f 2155-215e 2190-2bff 3001-3002 3012 30fb ff01-ff0f ff1a-ff20
    ff3b-ff40 ff5b-ff65 ffe0-ffe1 ffe5-ffe6"""
RUNS = """
    00b2-00b3 00b9 201a 201e-201f 2070 2074-2079 2080-2089"""


def character_class(ranges: str) -> str:
    """Ranges as they stand inside the brackets of a regular expression."""
    return "".join("-".join(f"\\u{end}" for end in each.split("-")) for each in ranges.split())
