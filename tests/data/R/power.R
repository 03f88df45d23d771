# lme4's power on the data sets of `python docs/coverage.py --power FOLDER`: Rscript power.R FOLDER
# R 4.2.2, lme4 1.1-31, lmerTest 3.1-3, pbkrtest 0.5.2. A row a data set: p of fomm - warp.
suppressMessages(library(lmerTest))
options(contrasts = c("contr.sum", "contr.poly"))
folder <- commandArgs(TRUE)[1]
design <- read.csv(file.path(folder, "power-design.csv"), stringsAsFactors = TRUE)
values <- as.matrix(read.csv(file.path(folder, "power-values.csv"), header = FALSE))
done <- file.path(folder, "power-lme4.csv")
if (!file.exists(done)) cat("set,estimate,satterthwaite,kenward_roger,singular,seconds\n", file = done)
design$clip <- interaction(design$source, design$driving, design$method)
for (set in seq_len(nrow(values))) {
  if (set %in% read.csv(done)$set) next
  began <- proc.time()[3]
  design$value <- values[set, ]
  model <- suppressWarnings(suppressMessages(lmer(
    value ~ source_type * driving_type * method + (1 | rater) + (1 | rater:method) +
      (1 | source) + (1 | driving) + (1 | source:driving) + (1 | source:method) +
      (1 | driving:method) + (1 | clip), design)))
  weights <- setNames(numeric(length(fixef(model))), names(fixef(model)))
  weights[c("method1", "method2")] <- c(1, 2)  # copy, fomm, warp: fomm - warp = method1 + 2 method2
  s <- contest1D(model, weights, ddf = "Satterthwaite")
  k <- contest1D(model, weights, ddf = "Kenward-Roger")
  cat(paste(set, s$Estimate, s$`Pr(>|t|)`, k$`Pr(>|t|)`, isSingular(model), proc.time()[3] - began,
            sep = ","), "\n", sep = "", file = done, append = TRUE)
}
