"""Writes xxh64.json, rings.json and maglev.json: what the hashing policies must compute, computed by something else.

    python3 -m venv venv && venv/bin/pip install xxhash==4.1.0 && venv/bin/python generate.py

Written from Envoy's descriptions and the Maglev paper, see README.md, and not from the Rust code.
"""

import json
import math
import pathlib

import xxhash

HERE = pathlib.Path(__file__).parent


def xxh64(text: str, seed: int = 0) -> int:
    return xxhash.xxh64(text.encode(), seed=seed).intdigest()


def numbers(seed: int):
    """Some numbers: x := x * 6364136223846793005 + 1442695040888963407 mod 2^64 (Knuth's MMIX), the upper 32 bits of each."""
    x = seed
    while True:
        x = (x * 6364136223846793005 + 1442695040888963407) % 2**64
        yield x >> 32


def ring(endpoints: list[tuple[str, int]], min_size: int, max_size: int) -> list[tuple[int, int]]:
    """Sorted points and the index of whose each is. In doubles, as in Envoy and gRPC: what rounding does is part of the ring."""
    total = sum(weight for _, weight in endpoints)
    normalized = [weight / total for _, weight in endpoints]
    scale = min(math.ceil(min(normalized) * min_size) / min(normalized), float(max_size))
    points = []
    current = target = 0.0
    for index in sorted(range(len(endpoints)), key=lambda i: endpoints[i][0]):
        target += scale * normalized[index]
        number = 0
        while current < target:
            points.append((xxh64(f"{endpoints[index][0]}_{number}"), index))
            number += 1
            current += 1.0
    return sorted(points)


def maglev(endpoints: list[tuple[str, int]], size: int) -> list[int]:
    """The paper's listing 1 with whole permutations; the heaviest has a claim every turn, others as often as their weight says."""
    order = sorted(range(len(endpoints)), key=lambda i: endpoints[i][0])
    heaviest = max(weight for _, weight in endpoints)
    permutation, claimed, turns = {}, {}, {}
    for i in order:
        key = endpoints[i][0]
        offset, skip = xxh64(key, 0) % size, xxh64(key, 1) % (size - 1) + 1
        permutation[i] = [(offset + j * skip) % size for j in range(size)]
        claimed[i] = turns[i] = 0
    table = [-1] * size
    filled, turn = 0, 0
    while True:
        turn += 1
        for i in order:
            # It claims again when its weight over all turns has come to the heaviest's over its own claims.
            if turn * endpoints[i][1] < turns[i] * heaviest:
                continue
            turns[i] += 1
            while table[permutation[i][claimed[i]]] >= 0:
                claimed[i] += 1
            table[permutation[i][claimed[i]]] = i
            filled += 1
            if filled == size:
                return table


def endpoints(n: int, seed: int, heaviest: int, key: str) -> list[tuple[str, int]]:
    draw = numbers(seed)
    return [(key.format(i, 50051 + i), next(draw) % heaviest + 1) for i in range(n)]


def write(name: str, rows: list[dict]) -> None:
    lines = ",\n".join(json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in rows)
    (HERE / name).write_text(f"[\n{lines}\n]\n")


def main() -> None:
    alphabet = "0123456789.:_-abcdefghijklmnopqrstuvwxyz"
    draw = numbers(1)
    texts = ["".join(alphabet[next(draw) % len(alphabet)] for _ in range(length)) for length in range(101)]
    texts += ["10.0.0.7:50051_0", "[2001:db8::1]:443_1023", "unix:/run/s.sock_7", "größer als ASCII", "日本語 🙂"]
    write("xxh64.json", [{"text": t, "hashes": [[seed, xxh64(t, seed)] for seed in (0, 1, 2**64 - 1)]} for t in texts])

    local = [(f"127.0.0.1:{port}", 1) for port in range(90, 96)]
    rings = [
        (local, 12, 4096),
        (endpoints(5, 2, 5, "10.0.0.{}:50051"), 100, 4096),
        (endpoints(7, 3, 1, "10.0.0.{}:50051"), 1024, 4096),
        # Fractions: there are fewer points than the weights ask for, and some endpoints have none.
        (endpoints(40, 4, 100, "10.1.{}.9:{}"), 64, 128),
        (endpoints(60, 5, 3, "pod-{}.shop.svc"), 30, 40),
        # 14 points each, but the sum of doubles passes a whole number on its way: one has 15, and the ring 1051.
        (endpoints(75, 6, 1, "10.2.0.{}:80"), 1024, 4096),
    ]
    write("rings.json", [
        {"min_ring_size": low, "max_ring_size": high, "endpoints": es, "points": ring(es, low, high)} for es, low, high in rings
    ])

    tables = [
        (local, 7),
        ([("127.0.0.1:90", 1), ("127.0.0.1:91", 2)], 17),
        (endpoints(11, 7, 9, "10.0.0.{}:50051"), 251),
        (endpoints(40, 8, 100, "pod-{}.shop.svc"), 1009),
        (endpoints(30, 9, 1, "10.3.0.{}:80"), 23),
    ]
    rows = [{"endpoints": es, "table_size": size, "table": maglev(es, size)} for es, size in tables]
    # The default table of 65,537 entries: the XXH64 of its indices, joined by commas.
    for es in (endpoints(20, 10, 1, "10.4.0.{}:50051"), endpoints(20, 11, 7, "10.5.0.{}:50051")):
        table = maglev(es, 65537)
        rows.append({"endpoints": es, "table_size": 65537, "xxh64_of_table": xxh64(",".join(map(str, table)))})
    write("maglev.json", rows)


if __name__ == "__main__":
    main()
