#!/usr/bin/env python3
"""Reads a packed store as docs/format.md describes it, with nothing but Python's own library and, for compressed chunks,
the `zstd` program if there is one. Prints a line for each chunk and for each path of each snapshot.

    read_containers.py VAULT/packed
"""
import pathlib, shutil, struct, subprocess, sys, zlib

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
MIX = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
       (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
M = 0xFFFFFFFF


def compress(cv, block, counter, length, flags):
    v = list(cv) + list(IV[:4]) + [counter & M, counter >> 32, length, flags]
    m = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(MIX):
            for x, r1, r2 in ((m[2 * i], 16, 12), (m[2 * i + 1], 8, 7)):
                v[a] = (v[a] + v[b] + x) & M
                t = v[d] ^ v[a]
                v[d] = (t >> r1 | t << (32 - r1)) & M
                v[c] = (v[c] + v[d]) & M
                t = v[b] ^ v[c]
                v[b] = (t >> r2 | t << (32 - r2)) & M
        m = [m[i] for i in ORDER]
    return [v[i] ^ v[i + 8] for i in range(8)]


def subtree(data, counter, root):
    if len(data) <= 1024:
        cv, last = IV, max(0, (len(data) - 1) // 64)
        for i in range(last + 1):
            flags = (CHUNK_START if i == 0 else 0) | (CHUNK_END | root if i == last else 0)
            block = data[64 * i:64 * i + 64]
            cv = compress(cv, block, counter, len(block), flags)
        return cv
    left = 1024
    while left * 2 < len(data):
        left *= 2
    pair = subtree(data[:left], counter, 0) + subtree(data[left:], counter + left // 1024, 0)
    return compress(IV, struct.pack("<16I", *pair), 0, 64, PARENT | root)


def blake3(data):
    return struct.pack("<8I", *subtree(data, 0, ROOT))


def container_entries(path):
    data = path.read_bytes()
    assert data[:16] == b"ORBITPAK\0" + struct.pack("<I", 1) + bytes(3), "header"
    journal = pathlib.Path(f"{path}.journal")
    if journal.exists():
        log = journal.read_bytes()
        assert log[:16] == b"ORBITJNL" + struct.pack("<II", 1, 0), "journal header"
        records = [log[at:at + 56] for at in range(16, len(log) - 55, 56)]
        raw = [record[:48] for record in records if blake3(record[:48])[:8] == record[48:]]
    else:
        count, length, check, magic = struct.unpack("<QQ32s8s", data[-56:])
        assert magic == b"ORBITEND" and length == 48 * count + 56, "trailer"
        assert blake3(data[-length:-40]) == check, "checksum of the index"
        raw = [data[at:at + 48] for at in range(len(data) - length, len(data) - 56, 48)]
    for entry in raw:
        yield struct.unpack("<32sQII", entry) + (data,)


def chunk(name, offset, stored, size, data):
    content = data[offset:offset + stored]
    if stored < size:
        content, check = content[:-4], content[-4:]
        assert struct.pack("<I", zlib.crc32(content)) == check, f"frame of {name.hex()}"
        if not shutil.which("zstd"):
            return None
        content = subprocess.run(["zstd", "-dcq"], input=content, stdout=subprocess.PIPE, check=True).stdout
    assert len(content) == size and blake3(content) == name, f"chunk {name.hex()} is damaged"
    return content


class Fields:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        found = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return found[0] if len(found) == 1 else found

    def bytes(self):
        return self.take(f"{self.take('I')}s")


def tree(chunks, name):
    fields = Fields(chunks[name])
    assert fields.take("4sB") == (b"ORBN", 1), "node"
    level, count = fields.take("BI")
    for _ in range(count):
        if level == 255:
            yield fields.take("32sI")[0]
        elif level > 0:
            fields.bytes()
            yield from tree(chunks, fields.take("32sIQ")[0])
        else:
            path, kind = fields.bytes(), fields.take("B")
            rest = {0: lambda: fields.take("Q"), 2: fields.bytes, 7: lambda: fields.take("i")}.get(kind, lambda: None)()
            mode, _, _, _, is_listed, parts = fields.take("IqIBBI")
            names = [fields.take("32sI")[0] for _ in range(parts)]
            yield path, kind, rest, mode, [c for n in names for c in tree(chunks, n)] if is_listed else names


def main(store):
    chunks = {}
    for path in sorted((store / "containers").glob("*.orbitpak")):
        for name, offset, stored, size, data in container_entries(path):
            chunks[name] = chunk(name, offset, stored, size, data)
            state = "skipped" if chunks[name] is None else "raw" if stored == size else "zstd"
            print("chunk", name.hex(), path.stem, offset, stored, size, state)
    for path in sorted((store / "snapshots").iterdir()):
        copy = path.read_bytes()[:path.stat().st_size // 2]
        assert copy[:12] == b"ORBITSNP" + struct.pack("<I", 1) and blake3(copy[:-32]) == copy[-32:], "snapshot"
        fields = Fields(copy[16:-32])
        fields.take("16sQI"), fields.bytes(), fields.bytes(), fields.take("qIqIBQQQQ")
        root = fields.take("32sI")[0]
        if chunks[root] is None:
            continue
        for name, kind, rest, mode, parts in tree(chunks, root):
            content = [chunks[part] for part in parts]
            digest = "-" if None in content else blake3(b"".join(content)).hex()
            print("path", path.name, name.hex(), kind, oct(mode), digest)


main(pathlib.Path(sys.argv[1]))
