import argparse
import os

parser = argparse.ArgumentParser()
parser.add_argument("--limit", type=int)
share = range(int(os.environ["RANK_ID"]), parser.parse_args().limit, int(os.environ["RANK_SIZE"]))
mean = sum(share) / len(share)
print("device", os.environ["DEVICE_ID"], "has", len(share), "numbers of mean", mean)
with open("mean.txt", "w") as stream:
    stream.write(f"{mean}\n")
