"""The command line: ``popdl <step> …`` parses, calls one function of popdl, and nothing more."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from popdl import __version__
from popdl.errors import PopdlError
from popdl.jobs import step
from popdl.scaffold import kinds, new

__all__ = ["main"]

MODEL_SUFFIXES = (".safetensors", ".json")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; bad input ends with exit code 2 and one message."""
    options = _parser().parse_args(arguments)
    with step(debug=options.debug):
        options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="popdl",
        description="Deep-learning inference from population genomic data, step by step. "
        "The whole of a study runs with `snakemake --cores N --configfile CONFIG`.",
    )
    parser.add_argument("--version", action="version", version=f"popdl {__version__}")
    commands = parser.add_subparsers(title="steps", metavar="STEP", required=True)

    def command(name: str, text: str, run: object) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--debug", action="store_true", help="show tracebacks and debugging messages")
        sub.set_defaults(run=run)
        return sub

    def study_command(name: str, text: str, run: object = None) -> argparse.ArgumentParser:
        sub = command(name, text, run or _study_step)
        sub.add_argument("config", help="the study's YAML file")
        sub.add_argument(
            "--results", type=Path, default=Path("results"), help="folder of all results (default: results)"
        )
        sub.set_defaults(step=name)
        return sub

    check = command("check", "check a config, and the genomes it names, before any work", _check)
    check.add_argument("config", help="the study's YAML file; - reads JSON from standard input")
    check.add_argument("--config-only", action="store_true", help="do not look at genomes and maps")
    config = command("config", "print a config with every default spelled out", _config)
    config.add_argument("config", help="the study's YAML file")
    plan = command("plan", "estimate what a study will cost, from a small pilot of its simulations", _plan)
    plan.add_argument("config", help="the study's YAML file")
    plan.add_argument("--seconds", type=float, default=120.0, help="time for the pilot at most (default: 120)")
    simulate = study_command("simulate", "simulate the shards of a study that are not there yet")
    simulate.add_argument("--shard", type=int, action="append", dest="only", help="only this shard (may be repeated)")
    import_ = study_command("import", "import the shards of a study's own data that are not there yet")
    import_.add_argument("--shard", type=int, action="append", dest="only", help="only this shard (may be repeated)")
    import_.set_defaults(step="import_")
    study_command("encode", "encode the simulations for the networks")
    study_command("split", "assign scenarios to training, validation and test")
    train = study_command("train", "train the networks; goes on where it was interrupted")
    train.add_argument(
        "--network", action="append", dest="only", metavar="NAME/REPLICATE", help="only this one (may be repeated)"
    )
    study_command("evaluate", "score networks and baselines on the test split, publish the best network")
    study_command("apply", "predict the study's genomes")
    study_command("report", "draw the figures and write the report")

    predict = command("predict", "predict genomes, or stored examples, with trained models", _predict)
    predict.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="models (.safetensors; several are averaged) or an ensemble (.json), and what to predict: VCF or BCF files, or stores of examples",
    )
    predict.add_argument("--output", type=Path, required=True, help="writes OUTPUT.tsv, and for genomes OUTPUT.bed")
    predict.add_argument("--append", action="store_true", help="add to the files that are there")
    predict.add_argument(
        "--trust-plugin", action="store_true", help="run the code that a model carries of its author (read it first)"
    )
    predict.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: a GPU if found")
    predict.add_argument("--threads", type=_positive, help="CPU threads (default: as torch chooses)")
    predict.add_argument("--batch-size", type=_positive, default=64, help="examples at once (default: 64)")
    cut = predict.add_mutually_exclusive_group()
    cut.add_argument("--window-size", type=float, help="bp (default: the length the model was trained on)")
    cut.add_argument("--window-sites", type=int, help="windows of this many sites instead")
    predict.add_argument("--step", type=float, help="distance between window starts (default: windows touch)")
    predict.add_argument("--region", action="append", help="contig or contig:start-end, 1-based (may be repeated)")
    chosen = predict.add_mutually_exclusive_group()
    chosen.add_argument("--samples", type=Path, help="file with one sample name per line")
    chosen.add_argument("--panel", type=Path, help="table of samples and populations")
    predict.add_argument("--population", help="population of the panel")
    predict.add_argument("--column", default="pop", help="the panel's column with populations (default: pop)")
    predict.add_argument("--number", type=_positive, help="draw this many of the individuals")
    predict.add_argument("--build", help="genome build of the VCF, e.g. GRCh37")
    predict.add_argument("--ancestral", choices=["reference", "INFO/AA"], help="where ancestral alleles come from")
    predict.add_argument("--seed", type=int, default=42, help="seed of the draw of individuals (default: 42)")

    networks = command("networks", "list the networks that ship, with their sizes and options", _networks)
    networks.add_argument("config", nargs="?", help="count parameters at the shape of this study's examples")
    card = command("card", "print what a model file says of itself", _card)
    card.add_argument("model", type=Path)
    shown = card.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="the whole card, as it is in the file")
    shown.add_argument("--source", action="store_true", help="the code that the model carries of its author")
    models = command("models", "list the model files of a folder", _models)
    models.add_argument("folder", type=Path)
    starter = command("new", "write a working file to start from, and a test for it", _new)
    starter.add_argument("kind", choices=kinds())
    starter.add_argument("name", help="e.g. my_network, for plugins/my_network.py (a study: config/my_study.yaml)")
    verify = command("verify", "read every byte of stores and models and compare checksums", _verify)
    verify.add_argument("path", type=Path, nargs="+", help="a shard, a store, a model, or a folder of results")
    export = command("export", "write simulated or imported examples for other programs", _export)
    export.add_argument("store", type=Path, help="e.g. results/<study>/simulations.zarr, or one shard of it")
    export.add_argument(
        "--to", choices=["npz", "ms", "trees"], required=True, help="dnadna's npz layout, ms text, or tree sequences"
    )
    export.add_argument("output", type=Path, help="a new folder (npz, trees) or file (ms; gzipped if it ends in .gz)")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def _study_step(options: argparse.Namespace) -> None:
    from popdl import steps
    from popdl.config.study import load_study
    from popdl.layout import Results

    study = load_study(options.config)
    extra = {"only": options.only} if hasattr(options, "only") else {}
    getattr(steps, options.step)(study, Results(options.results / study.study), **extra)


def _check(options: argparse.Namespace) -> None:
    from popdl.config.reading import read_config
    from popdl.study_check import check_study, read_study

    where = "config" if options.config == "-" else options.config
    study = read_study(json.load(sys.stdin) if options.config == "-" else read_config(options.config), where=where)
    problems = check_study(study, config_only=options.config_only)
    if problems:
        raise PopdlError("\n  ".join([f"{where}: this study cannot run:", *problems]))
    print(f"{where}: study {study.study} is ready to run.")


def _config(options: argparse.Namespace) -> None:
    from popdl.config.study import load_study, study_text

    print(study_text(load_study(options.config)), end="")


def _plan(options: argparse.Namespace) -> None:
    from popdl.config.study import load_study
    from popdl.plan import plan_study
    from popdl.plan_text import plan_text

    print(plan_text(plan_study(load_study(options.config), seconds=options.seconds)), end="")


def _predict(options: argparse.Namespace) -> None:
    from popdl.predict_files import predict_files
    from popdl.trust import asking

    if (options.panel is None) != (options.population is None):
        raise PopdlError("--panel and --population belong together; give both, or neither.")
    chosen = options.samples or options.panel or options.number
    samples = {
        "file": options.samples,
        "panel": options.panel,
        "population": options.population,
        "column": options.column,
        "number": options.number,
    }
    application = {
        "build": options.build,
        "samples": samples if chosen else None,
        "windows": {"size": options.window_size, "sites": options.window_sites, "step": options.step},
        "regions": options.region,
        "ancestral": options.ancestral,
    }
    output = options.output
    predict_files(
        [path for path in options.files if path.suffix in MODEL_SUFFIXES],
        [path for path in options.files if path.suffix not in MODEL_SUFFIXES],
        application=application,
        seed=options.seed,
        output=output.with_suffix("") if output.suffix in (".tsv", ".bed") else output,
        append=options.append,
        device=options.device,
        threads=options.threads,
        batch_size=options.batch_size,
        trust=asking(trusted=options.trust_plugin),
    )


def _networks(options: argparse.Namespace) -> None:
    from popdl.catalogue import network_catalogue
    from popdl.config.study import load_study

    print(network_catalogue(load_study(options.config) if options.config else None), end="")


def _card(options: argparse.Namespace) -> None:
    from popdl.cards import card_text, sources_text
    from popdl.model import read_card

    if options.json:
        print(json.dumps(read_card(options.model, verify=True), indent=2))
    else:
        print((sources_text if options.source else card_text)(options.model), end="")


def _models(options: argparse.Namespace) -> None:
    from popdl.cards import model_table

    print(model_table(options.folder), end="")


def _new(options: argparse.Namespace) -> None:
    file, test = new(options.kind, options.name)
    print(f"{file}: change it; its first lines say how to use it.\n{test}: run it with `python -m pytest {test}`.")


def _verify(options: argparse.Namespace) -> None:
    from popdl.verifying import verify

    for path in options.path:
        print(f"{path}: {verify(path)}.")


def _export(options: argparse.Namespace) -> None:
    from popdl.exporting import export

    print(f"{options.output}: {export(options.store, options.output, to=options.to)} examples written.")


if __name__ == "__main__":
    main()
