# Logs, checkpoints and seeds: the same for every task.

# ---- often changed ----
seed = 0  # of weights, shuffling and augmentation
log_interval = 10  # iterations between two log lines
patience = "${max_epochs}"  # epochs without a better result after which training stops
ema = False  # True: validate, test and deploy averaged weights (aicore.EMAHook)
channels_last = False  # True: memory layout NHWC, faster convolutions, as --channels-last
compile = False  # True: torch.compile for the training, as --compile
sync_bn = False  # True: batch-norm statistics over all processes' images (CUDA only)

# ---- the rest ----
ema_hook = dict(
    type="aicore.EMAHook",
    momentum=0.0002,  # share of the newest weights in the average
    warmup=100,  # iterations during which it falls to that, from 1
    update_buffers=True,  # average the batch-norm statistics too
)
default_hooks = dict(
    timer=dict(type="IterTimerHook"),  # times and ETA in the log
    logger=dict(type="LoggerHook", interval="${log_interval}"),
    param_scheduler=dict(type="ParamSchedulerHook"),
    sampler_seed=dict(type="DistSamplerSeedHook"),  # another order in each epoch
    checkpoint=dict(
        type="aicore.CheckpointHook",
        interval=1,  # epochs
        interval_iters=0,  # iterations, for checkpoints within long epochs; 0: none
        max_keep_ckpts=2,  # the last ones; the best one is kept beside them
        save_best="${monitor}",
        rule="greater",
    ),
    ema="${ema_hook if ema else None}",
    graceful_stop=dict(type="aicore.GracefulStopHook"),  # SIGTERM, Ctrl-C: save, then exit
    invalid_loss=dict(type="aicore.InvalidLossHook", max_times=3),  # NaN: stop after so many
    dataset_check=dict(type="aicore.DatasetCheckHook"),  # quick check before training and test
    bad_images=dict(type="aicore.BadImageHook", max_share=0.05),  # stop above this share
    progress=dict(type="aicore.ProgressHook"),  # a bar, in a terminal
    summary=dict(type="aicore.SummaryHook", monitor="${monitor}"),
    report=dict(type="aicore.ReportHook", task="${task}"),
)  # what a test writes
custom_hooks = [
    dict(
        type="aicore.EarlyStoppingHook",
        monitor="${monitor}",
        rule="greater",
        min_delta=0,
        check_finite=False,  # a figure that is not defined (NaN) is no better one
        patience="${patience}",
    ),
]
runner_type = "aicore.Runner"
log_processor = dict(type="aicore.LogProcessor", window_size="${log_interval}")
visualizer = dict(
    type="Visualizer",
    vis_backends=[
        dict(type="LocalVisBackend"),  # JSON log: <time>/vis_data/scalars.json
        dict(type="TensorboardVisBackend"),
    ],
)
env_cfg = dict(
    cudnn_benchmark=False,  # True is faster where all batches have one shape
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),  # workers are the parallelism
)
launcher = "none"  # pytorch: one of several processes, see tools/dist_train.sh
trust_checkpoint = False  # True: read checkpoints that could run code of their author's
randomness = dict(seed="${seed}")
log_level = "INFO"
load_from = None
resume = False
