def overall(table):
    return table.groupby("metric")["value"].mean().to_dict()
