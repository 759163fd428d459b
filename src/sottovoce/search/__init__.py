"""Which bits each matrix gets: sensitivities, architecture search, exact allocation."""

from sottovoce.search.clustering import Cluster, Part, clusters, plan_of
from sottovoce.search.describing import DescribedTensor, Description, describe
from sottovoce.search.measuring import sensitivity
from sottovoce.search.nas import NAS, search_architecture
from sottovoce.search.table import Choice, SensitivityTable
from sottovoce.search.task import Searchable, mean_loss

__all__ = [
    "NAS",
    "Choice",
    "Cluster",
    "DescribedTensor",
    "Description",
    "Part",
    "Searchable",
    "SensitivityTable",
    "clusters",
    "describe",
    "mean_loss",
    "plan_of",
    "search_architecture",
    "sensitivity",
]
