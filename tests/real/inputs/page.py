"""Pages for ghostscript: PostScript with paths, text, shadings, images and procedures, and a PDF."""
import zlib

from .draw import Draw

PROLOGUE = """%!PS-Adobe-3.0
/leaf { % size level
  dup 0 eq { pop 0 0 moveto 0 exch rlineto stroke } {
    gsave
    1 index 0 exch 0 0 moveto lineto stroke
    0 2 index translate
    gsave 28 rotate 1 index 0.72 mul 1 index 1 sub leaf grestore
    gsave -31 rotate 1 index 0.68 mul 1 index 1 sub leaf grestore
    grestore pop pop
  } ifelse
} def
/table 200 dict def
/litter { % count: dictionaries, strings and arrays made, kept for a while, and dropped
  { 200 mod table exch 50 dict begin /key 64 string def /list 20 array def currentdict end put } for
} bind def
"""


def postscript(pages: int) -> bytes:
    """A document of `pages` pages."""
    draw = Draw(11)
    fonts = ["NimbusRoman-Regular", "NimbusSans-Bold", "NimbusMonoPS-Regular", "C059-Italic"]
    out = [PROLOGUE]
    for page in range(pages):
        out.append(f"%%Page: {page + 1} {page + 1}\nsave")
        for _ in range(40):
            path = [
                f"{draw(1000) / 1000} {draw(1000) / 1000} {draw(1000) / 1000} setrgbcolor "
                f"{draw(600)} {draw(780)} moveto"
            ]
            path += [" ".join(str(draw(700)) for _ in range(6)) + " curveto" for _ in range(8)]
            out.append(
                " ".join(path) + (" closepath fill" if draw(2) else f" {1 + draw(5)} setlinewidth stroke")
            )
        for line in range(45):
            text = " ".join(draw.word() for _ in range(9))
            out.append(
                f"0 setgray /{fonts[draw(len(fonts))]} findfont {7 + draw(9)} scalefont setfont "
                f"40 {760 - 16 * line} moveto ({text}) show"
            )
        out.append("gsave 300 60 translate 1 setlinewidth 90 9 leaf grestore")
        out.append(
            f"<< /ShadingType 3 /ColorSpace /DeviceRGB /Coords [150 {200 + draw(300)} 10 220 400 190] /Function "
            "<< /FunctionType 2 /Domain [0 1] /C0 [1 0 0] /C1 [0 0.3 1] /N 1.4 >> >> shfill"
        )
        pixels = "".join(f"{draw(256):02x}" for _ in range(64 * 64 * 3))
        out.append(
            "gsave 400 500 translate 150 150 scale 64 64 8 [64 0 0 -64 0 64] "
            f"{{currentfile 12288 string readhexstring pop}} false 3 colorimage\n{pixels}\ngrestore"
        )
        out.append("0 1 900 litter restore showpage")
    return "\n".join(out).encode()


def pdf(pages: int) -> bytes:
    """A PDF document of `pages` pages: compressed content, transparency, standard fonts."""
    draw = Draw(13)
    objects: list[bytes] = []

    def add(body: bytes) -> int:
        objects.append(body)
        return len(objects)

    def stream(data: bytes, extra: bytes = b"") -> bytes:
        packed = zlib.compress(data)
        return b"<< /Length %d /Filter /FlateDecode %s >>\nstream\n%s\nendstream" % (
            len(packed),
            extra,
            packed,
        )

    catalog, tree = add(b""), add(b"")
    font = add(b"<< /Type /Font /Subtype /Type1 /BaseFont /Times-Roman >>")
    half = add(b"<< /Type /ExtGState /ca 0.5 /CA 0.6 /BM /Multiply >>")
    kids = []
    for _ in range(pages):
        content = ["/G gs"]
        for _ in range(120):
            content.append(
                f"{draw(100) / 100} {draw(100) / 100} {draw(100) / 100} rg {draw(500)} {draw(700)} m "
                + " ".join(f"{draw(600)} {draw(800)} l" for _ in range(6))
                + " f"
            )
        for line in range(60):
            content.append(
                f"BT 0 g /F {6 + draw(8)} Tf 30 {770 - 12 * line} Td "
                f"({' '.join(draw.word() for _ in range(10))}) Tj ET"
            )
        image = add(
            stream(
                bytes(draw(256) for _ in range(96 * 96 * 3)),
                b"/Type /XObject /Subtype /Image /Width 96 "
                b"/Height 96 /ColorSpace /DeviceRGB /BitsPerComponent 8",
            )
        )
        content.append("q 200 0 0 200 300 100 cm /I Do Q")
        text = add(stream("\n".join(content).encode()))
        kids.append(
            add(
                b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 612 792] /Contents %d 0 R /Resources << /Font << /F "
                b"%d 0 R >> /XObject << /I %d 0 R >> /ExtGState << /G %d 0 R >> >> >>"
                % (tree, text, font, image, half)
            )
        )
    objects[catalog - 1] = b"<< /Type /Catalog /Pages %d 0 R >>" % tree
    objects[tree - 1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (
        pages,
        b" ".join(b"%d 0 R" % kid for kid in kids),
    )
    out = bytearray(b"%PDF-1.5\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for place in places:
        out += b"%010d 00000 n \n" % place
    out += b"trailer << /Size %d /Root %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        catalog,
        start,
    )
    return bytes(out)
