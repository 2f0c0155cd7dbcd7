"""Cut a genome into windows and encode them as the simulations were."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.application import Application
from popdl.config.base import validate
from popdl.config.encoding import Encoding
from popdl.config.study import source_section
from popdl.encoding import Encoder
from popdl.jobs import step
from popdl.variants import chosen_sections
from popdl.windows import encode_windows

params = snakemake.params
with step(snakemake.log[0]):
    sections = {params.source: params.simulation, "encoding": params.encoding, **chosen_sections(snakemake.input.data)}
    source = source_section(params.source, {**sections[params.source], "num_scenarios": 1})
    encode_windows(
        Path(snakemake.input.vcf),
        application=validate(Application, params.application, where=f"applications.{snakemake.wildcards.application}"),
        encoder=Encoder.for_source(
            validate(Encoding, sections["encoding"], where="encoding"), source, statistics=params.statistics
        ),
        seed=params.seed,
        output=Path(snakemake.output[0]),
    )
