"""Read a Longhorn backup store without a cluster: from a mounted or copied folder, or over SFTP, only by reading."""
