from hypothesis import given
from hypothesis import strategies as st

from tests.mutation.sample import draw


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(1, 200), st.integers())
def test_each_file_has_its_share(counts: list[int], size: int, seed: int) -> None:
    mutants = {f"{file}.py": [f"{file}.f_{number}" for number in range(count)] for file, count in enumerate(counts)}
    drawn = draw(mutants, size, seed)
    assert drawn == draw(mutants, size, seed)
    assert len(set(drawn)) == len(drawn) == min(size, sum(counts))
    for names in mutants.values():
        assert abs(len({*drawn} & {*names}) - len(drawn) * len(names) / sum(counts)) < 1
