"""SMT-LIB problems for z3: propositional, bit vectors, linear arithmetic, arrays, datatypes, quantifiers."""
from .draw import Draw


def pigeons(holes: int) -> str:
    """One pigeon more than holes: unsatisfiable."""
    out = ["(push)"]
    for pigeon in range(holes + 1):
        out += [f"(declare-const p{pigeon}_{hole} Bool)" for hole in range(holes)]
        out.append("(assert (or " + " ".join(f"p{pigeon}_{hole}" for hole in range(holes)) + "))")
    for hole in range(holes):
        for one in range(holes + 1):
            out += [f"(assert (not (and p{one}_{hole} p{two}_{hole})))" for two in range(one)]
    return "\n".join(out + ["(check-sat)", "(pop)"])


def queens(size: int) -> str:
    """Queens on a board, as integers."""
    out = ["(push)"]
    for row in range(size):
        out.append(f"(declare-const q{row} Int)(assert (and (<= 0 q{row}) (< q{row} {size})))")
    out.append("(assert (distinct " + " ".join(f"q{row}" for row in range(size)) + "))")
    for sign in "+-":
        out.append("(assert (distinct " + " ".join(f"({sign} q{row} {row})" for row in range(size)) + "))")
    return "\n".join(
        out + ["(check-sat)", f"(get-value ({' '.join(f'q{row}' for row in range(size))}))", "(pop)"]
    )


def factors(bits: int, product: int) -> str:
    """Factors of a number, as bit vectors."""
    return f"""(push)
(declare-const a (_ BitVec {bits}))(declare-const b (_ BitVec {bits}))
(assert (= (bvmul a b) (_ bv{product} {bits})))
(assert (bvult a (_ bv{1 << bits // 2} {bits})))(assert (bvult b (_ bv{1 << bits // 2} {bits})))
(assert (bvugt a (_ bv1 {bits})))(assert (bvule a b))
(check-sat)(get-value (a b))
(pop)"""


def schedule(draw: Draw, jobs: int) -> str:
    """Jobs on machines that may not overlap, within a limit: linear arithmetic with many branches."""
    out = ["(push)"]
    tasks = [(draw(3), 1 + draw(7)) for _ in range(jobs)]
    for job, (_, length) in enumerate(tasks):
        out.append(
            f"(declare-const t{job} Real)(assert (>= t{job} 0))(assert (<= (+ t{job} {length}) {jobs * 5 // 2}))"
        )
    for one, (machine, length) in enumerate(tasks):
        for two in range(one):
            if tasks[two][0] == machine:
                out.append(
                    f"(assert (or (<= (+ t{one} {length}) t{two}) (<= (+ t{two} {tasks[two][1]}) t{one})))"
                )
    return "\n".join(out + ["(check-sat)", "(pop)"])


STRUCTURES = """(push)
(declare-datatypes ((Tree 0)) (((leaf) (node (left Tree) (value Int) (right Tree)))))
(declare-fun size (Tree) Int)
(assert (forall ((t Tree)) (! (= (size t) (ite ((_ is leaf) t) 0 (+ 1 (size (left t)) (size (right t))))) :pattern ((size t)))))
(declare-const x Tree)(declare-const y Tree)
(assert ((_ is node) x))(assert (= y (node x 3 x)))(assert (= (left x) leaf))(assert (= (right x) leaf))
(assert (not (= (size y) 3)))
(check-sat)
(pop)
(push)
(declare-const m (Array Int Int))(declare-const n (Array Int Int))
(declare-const i Int)(declare-const j Int)
(assert (= n (store (store m i 1) j 2)))
(assert (not (= i j)))(assert (not (= (+ (select n i) (select n j)) 3)))
(check-sat)
(pop)"""


def make(holes: int, board: int, repeats: int) -> bytes:
    """A script of `repeats` rounds of all problems."""
    draw = Draw(17)
    out = [
        "(set-option :produce-models true)",
        "(set-option :smt.random_seed 1)",
        "(set-option :sat.random_seed 1)",
    ]
    primes = [40961, 59999, 61001, 50021, 32771, 64513]
    for repeat in range(repeats):
        out.append(pigeons(holes))
        out.append(queens(board + repeat % 3))
        out.append(factors(32, primes[repeat % 6] * 12289))
        out.append(schedule(draw, 15 + repeat % 3))
        out.append(STRUCTURES)
    return "\n".join(out).encode() + b"\n"
