# VisA (Zou et al., 2022), as it is downloaded: a csv file says what is what.

_base_ = "./anomaly.py"

# ---- often changed ----
data_root = "data/visa"
category = "candle"  # candle, capsules, cashew, chewinggum, fryum, macaroni1, ...
train = "split_csv/1cls.csv"
test = "split_csv/1cls.csv"
masks = None  # the csv file names them

# ---- the rest ----
train_dataloader = dict(dataset=dict(rows=dict(object="${category}", split="train")))
val_dataloader = dict(dataset=dict(rows=dict(object="${category}", split="train")))
test_dataloader = dict(dataset=dict(rows=dict(object="${category}", split="test")))
