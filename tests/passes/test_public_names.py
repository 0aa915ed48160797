"""The names that other rooms build on."""

import ingot.passes

NAMES = """
SCHEMES Assignment AbsorbLatents BatchSequences CacheType CastRows CastWeights Checker DropNeutralTerms
EliminateCommonSubexpressions EliminateDeadCode FixLength FoldConstants FuseActivations FuseAttention
FuseGateUp FuseNorms FuseQKV FuseRope InterpreterChecker MergeRoutes PageKVCache Pass PassRecord PassResult
PipelineOptions PipelineResult QuantScheme QuantizeWeights RoundRows StoreConstants TabulateRope Topology
build_pipeline find_assignment parse_topology print_topology read_topology run_passes TakeCalibrated
calibrated_name fusing_passes SplitLinears
"""


def test_public_names() -> None:
    assert sorted(ingot.passes.__all__) == sorted(NAMES.split())
    assert all(hasattr(ingot.passes, name) for name in ingot.passes.__all__)
