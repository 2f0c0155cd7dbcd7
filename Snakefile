# popdl: from a prior and a question to a trained network, predictions with uncertainty and a report.
#
#   snakemake --cores 2                                        the default study, config/config.yaml
#   snakemake --cores 2 --configfile config/human_chr20.yaml   another one
#
# Rules are in workflow/rules, what they call is in src/popdl, site settings are in profiles/.
from snakemake.utils import min_version, validate

min_version("9.12")

# A study given with --configfile stands alone: the default study must not leak into it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"


# Raw shards have one origin.
if SOURCE == "import":

    include: "workflow/rules/import.smk"

else:

    include: "workflow/rules/simulate.smk"


include: "workflow/rules/plan.smk"
include: "workflow/rules/encode.smk"
include: "workflow/rules/train.smk"


if VARIANTS:

    include: "workflow/rules/search.smk"


include: "workflow/rules/apply.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        "<results>/report.html",
        "<results>/model.safetensors",
        "<results>/simulations.zarr/zarr.json",
        "<results>/dataset.zarr/zarr.json",
        expand(
            "<results>/applications/{application}/{model}.windows.{ending}",
            application=APPLICATIONS,
            model=[*MODELS, *ENSEMBLES],
            ending=["tsv", "bed"],
        ),
