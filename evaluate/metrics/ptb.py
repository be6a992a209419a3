"""The tokens that coco-caption scores, without Java: a twin of its PTB tokeniser.

coco-caption runs Stanford's PTBTokenizer (CoreNLP 3.4.1, `-preserveLines -lowerCase`) over all captions joined by
newlines, then drops a list of punctuation. This module was written from what that program prints, not from its source;
tests/compare_ptb.py compares the two, and docs/metrics.md says how far they agree.

Quirks that are kept, because published scores contain them:
- Brackets become -lrb-, -rrb- and so on, and stay: the list of punctuation names them in capitals only.
- A newline is a blank to the tokeniser, so the first word of the *next* caption decides whether "the letter T." at the
  end of this one keeps its full stop. Captions are therefore tokenised as one list, in its order.
- "1 1/2" and telephone numbers are one token with no-break spaces inside, which BLEU and CIDEr split, ROUGE not.
- A pound sign becomes "#", a euro sign "$", a cent sign "cents"; emoji and other rare characters vanish.
"""

import re
from collections.abc import Sequence

from mrnn.evaluate.metrics.ptb_characters import LETTERS, MARKS, RUNS, SIGNS, character_class

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
LINE_BREAKS = re.compile(r"[\n\r\x0b\x0c\u2028\u2029]")


# Abbreviations in any case. The full stop belongs to the word; what follows a title never makes it end a sentence,
TITLES = """
    adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col comdr cpl dept det dr drs elec ens ft gen gov
    govs hon insp invt jos lieut lt maj messrs mfg mlle mme mr mrs ms msgr mt mtg natl pfc ph pres prof profs pvt rep
    reps rev sen sens sfc sgt spc st ste supt supts treas vs wm"""
# while after these the full stop counts twice where a capital, a tag or more white space follows, or nothing.
ENDINGS = """
    al ala apr ariz assn aug bancorp bhd bldg blvd bros calif co colo conn corp cos ct dak dec ed.d esq est etc ext feb
    fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn ph.d
    plc ppte pptes ppty pptys pte ptes pty ptys rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues univ va vt wed
    wis wisc wyo"""
CAPITAL_ENDINGS = "Ark Az Del Ill La LA Mass Miss Ore Pa PA Tex Wash"  # in small letters they are words
BEFORE_NUMBERS = "art fig figs no nos op pp prop"
# Initials end a sentence where the next word, beginning with a capital, is one of these.
BEGINNINGS = """
    A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Now Once One
    Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You"""


def _any_of(words: str) -> str:
    return "|".join(map(re.escape, sorted(words.split(), key=len, reverse=True)))


FIRST = f"[A-Za-z{character_class(LETTERS)}]"
LETTER = f"[A-Za-z{character_class(LETTERS + MARKS)}]"
HYPHEN = "-\u058a\u2010\u2011"
POINT = ".,:\u066b\u066c"  # the last two are those of Arabic numbers
LETTER_OR_DIGIT = f"(?:{LETTER}|\\d)"
SUFFIX = f"(?:'(?i:s|d|m|ll|re|ve)(?!{LETTER})|’(?i:s|d|m|ll|re|ve))"
NOT = f"(?i:n['’`‘]t)(?!{LETTER})"
ACRONYM = r"[A-Za-z](?:\.[A-Za-z])+\."
BEGINS_SENTENCE = rf"(?=\s+(?:{'|'.join(f'{word[0]}(?i:{word[1:]})' for word in BEGINNINGS.split())})\s)"
ENDS_SENTENCE = r"(?=\s(?:\s|[A-ZÀ-ÖØ-Þ]|</?[A-Za-z])|\s?\Z)"
ABBREVIATION = f"(?:(?i:{_any_of(ENDINGS)})|{_any_of(CAPITAL_ENDINGS)})"
SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"

# At every place the first alternative that fits is taken, so of two that begin alike the longer stands first. What fits
# none is skipped. Groups say what becomes of a token, see _parts; without a name it is only put into small letters.
TOKEN = re.compile(
    rf"""
    \.?(?P<line>\n)
  | (?P<skip>[^\S\n]+|&nbsp;)
  # tags and addresses
  | (?P<inside><(?:!--.*?--|[!?][A-Za-z][^<>\n]*|/[A-Za-z][\w.:-]*|[^\s<>@]+@[^\s<>]+
        |[A-Za-z][\w.:-]*(?:[ ]+[A-Za-z][\w.:-]*(?:[ ]*=[ ]*(?:"[^"\n]*"|'[^'\n]*'))?)*[ ]*/?)>)
  | (?=\S*[/@])(?:(?i:https?://[^\s"<>|()]+\.[^\s"<>|()]*[^\s"<>|(),.!?:;'-])
      | (?i:www\.[\w.]+|[A-Za-z][A-Za-z0-9.]*\.(?:com|net|org|edu))/[^\s"<>|()]+[^\s"<>|(),.!?:;'-]
      | [A-Za-z0-9][^\s"<>|()]*@(?:[A-Za-z0-9][A-Za-z0-9-]*\.)*[A-Za-z0-9][A-Za-z0-9-]*)
  | @[A-Za-z_]\w* | \#{LETTER}+
  # entities
  | (?P<open>&quot;(?=[A-Za-z0-9$])) | (?i:&(?:amp|lt|gt|quot|apos|mdash|ndash|md);) | &\#\d+;
  # faces
  | (?P<inside_face>[<>]?[:;=][-o*']?[)DdPpO(\\|@{{\[\]](?=[^A-Za-z0-9]) | \(?(?:-_-|\^_\^|>_<)\)?)
  # numbers with blanks inside: 1 1/2, (800) 555-1212
  | (?P<inside_number>\d{{1,4}}[- \xa0]\d{{1,4}}/\d{{1,4}}
        |(?:\(\d{{2,3}}\)[ \xa0]?|(?:\+\+?)?(?:\d{{2,4}}[- \xa0])?\d{{2,4}}[- \xa0])\d{{3,4}}[- \xa0]?\d{{3,5}}
         (?![A-Za-z0-9]))
  # words with signs inside: and/or, US$, C++, R&B, 10-year-old, U.S.-based
  | (?:\d+(?:[.,:]\d+)*|{LETTER}{LETTER_OR_DIGIT}*)\.(?=[,;:])
  | {SLASHED}(?:/{SLASHED}){{1,2}}
  | [A-Z]+\$ | [Cc]\+\+ | [CcFf]\#
  | (?P<inside_acronym>[A-Z]+(?:(?:[+&]|&(?i:amp);)[A-Z]+)+)
  | (?:\d+(?:[.,]\d+)+|{LETTER_OR_DIGIT}+(?:\.{LETTER_OR_DIGIT}+)*)\.?(?:[{HYPHEN}_](?:{ACRONYM}|{LETTER_OR_DIGIT}+))+
  # abbreviations
  | (?=[A-Za-z.]+\.)(?:(?P<twice>{ABBREVIATION}\.){ENDS_SENTENCE}
      | {ABBREVIATION}\.(?!{LETTER}{LETTER_OR_DIGIT})
      | (?i:{_any_of(TITLES)})\.(?!{LETTER}) | (?i:{_any_of(BEFORE_NUMBERS)})\.(?=\s?\d)
      | (?P<twice_acronym>{ACRONYM}){BEGINS_SENTENCE} | {ACRONYM}(?!{LETTER})
      | [A-Za-z](?=\.{BEGINS_SENTENCE}) | [A-Za-z]\.(?!{LETTER}))
  # words with apostrophes
  | (?={LETTER}*['’`‘])(?:[A-Za-z]+?(?={NOT}) | (?P<clitic_not>{NOT})
      | (?i:e['’]er|c['’]mon|cap['’]n|s['’]mores|d['’]ye)(?!{LETTER}) | (?i:dunkin|somethin|ol)['’]
      | (?:{LETTER}+[aeiouyAEIOUY](?!{SUFFIX})['’][aeiouA-Z]|[dlnoA-HJ-XZ](?!{SUFFIX})['’]{LETTER}{{2}}){LETTER}*
      | [dDjJlL](?!{SUFFIX})['’] | [yY](?!{SUFFIX})['’](?={LETTER})
      | (?i:'tis|'twas)(?!{LETTER})
      | ['’](?i:em|till?|cause|n['’]) | ['’][2-9]0s | ['’]\d\d(?=\s) | ['’][nN](?!{LETTER}) | (?P<clitic>{SUFFIX}))
  # words and numbers
  | \d[A-Za-z0-9.]*\.(?i:bmp|doc|exe|gif|gz|html?|jpe?g|mov|mp3|pdf|php|png|ppt|txt|wav|xml|zip)(?!{LETTER_OR_DIGIT})
  | {LETTER}{LETTER_OR_DIGIT}*(?:[.!?]{LETTER}{LETTER_OR_DIGIT}*)*
  | [-+]?\d*(?:[{POINT}]\d+)+ | \d+{FIRST}{LETTER_OR_DIGIT}* | [-+]?\d+
  # punctuation
  | (?P<dots>\.{{3,5}}|\.[ ]\.[ ]\.(?:[ ]\.){{0,2}}) | [!?]+ | (?P<dash>-{{3,4}}(?!-)) | -{{2,}} | [*]+ | _+ | @+ | \#+
  | << | >> | `` | '' | \\[/*]
  | (?P<open_quote>"(?=[A-Za-z0-9$])) | (?P<open_single>'(?=[A-Za-z]\S))
  | [!-~¢-¤«»¼-¾\x80\x91-\x94\x96\x97\u2013-\u2015‘’‛‹›“”…\u2044₠€⅓⅔{character_class(SIGNS)}]
  | [{character_class(RUNS)}]+
    """,
    re.VERBOSE,
)

# What becomes of a token by itself.
CHANGED = {
    "cannot": ("can", "not"), "gonna": ("gon", "na"), "gotta": ("got", "ta"), "wanna": ("wan", "na"),
    "lemme": ("lem", "me"), "gimme": ("gim", "me"), "'tis": ("'t", "is"), "'twas": ("'t", "was"),
    "(": ("-lrb-",), ")": ("-rrb-",), "[": ("-lsb-",), "]": ("-rsb-",), "{": ("-lcb-",), "}": ("-rcb-",),
    '"': ("''",), "“": ("``",), "«": ("``",), "”": ("''",), "»": ("''",), "‘": ("`",), "‹": ("`",), "‛": ("`",),
    "’": ("'",), "›": ("'",), "–": ("--",), "—": ("--",), "―": ("--",), "…": ("...",),
    "\x91": ("`",), "\x92": ("'",), "\x93": ("``",), "\x94": ("''",), "\x96": ("--",), "\x97": ("--",),
    "£": ("#",), "¢": ("cents",), "€": ("$",), "₠": ("$",), "¤": ("$",), "\x80": ("$",),
    "½": ("1/2",), "¼": ("1/4",), "¾": ("3/4",), "⅓": ("1/3",), "⅔": ("2/3",),
    "&amp;": ("&",), "&lt;": ("<",), "&gt;": (">",), "&quot;": ("''",), "&apos;": ("'",),
    "&mdash;": ("--",), "&ndash;": ("--",), "&md;": ("--",),
}  # fmt: skip
FIXED = {"dots": ("...",), "dash": ("--",), "open": ("``",), "open_quote": ("``",), "open_single": ("`",)}

# Nearly all words of a caption are of this form, and those not in NOT_PLAIN need no look at TOKEN. The comma
# before them is passed over, since punctuation is dropped.
PLAIN = re.compile(r"(?:,?[ ]+)?([A-Za-z]+(?=[ \n,])|[A-Za-z]{2,}(?=\.[ \n]))")
NOT_PLAIN = frozenset([*CHANGED, *f"{TITLES} {ENDINGS} {CAPITAL_ENDINGS} {BEFORE_NUMBERS}".lower().split()])


def ptb_tokenize(captions: Sequence[str]) -> list[list[str]]:
    """Tokens of every caption as coco-caption scores them: in small letters, punctuation dropped.

    The list matters as a whole: the tokens at the end of a caption can depend on the first word of the next one.
    Characters that break lines count as blanks (coco-caption does so with newlines only; any other shifts all its
    captions after it by one).
    """
    text = "\n".join(LINE_BREAKS.sub(" ", caption) for caption in captions)
    text = text.replace("\xad", "").replace("\x85", "…")  # soft hyphens; Windows' ellipsis, which re takes for a blank
    lines: list[list[str]] = [[]]
    position = 0
    while position < len(text):
        plain = PLAIN.match(text, position)
        if plain and (token := plain[1].lower()) not in NOT_PLAIN:
            lines[-1].append(token)
            position = plain.end()
        elif match := TOKEN.match(text, position):
            if match.lastgroup == "line":
                lines.append([])
            elif match.lastgroup != "skip":
                parts = _parts(match[0].lower(), match.lastgroup or "")
                lines[-1] += [part for part in parts if part not in PUNCTUATION]
            position = match.end()
        else:
            position += 1
    return lines if captions else []


def _parts(token: str, kind: str) -> Sequence[str]:
    """The tokens that a match of TOKEN stands for. kind : the name of its group, or ''."""
    if kind.startswith("inside"):
        return (token.replace("&amp;", "&").replace(" ", "\xa0").replace("(", "-lrb-").replace(")", "-rrb-"),)
    if kind.startswith("clitic"):
        return (token.replace("’", "'").replace("‘", "`"),)
    if kind.startswith("twice"):
        return token, "."
    return FIXED.get(kind) or CHANGED.get(token) or (token,)
