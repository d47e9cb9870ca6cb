"""The modules of which a rollup's runtime is composed; one file each, behind `rollups.modules.module`."""
